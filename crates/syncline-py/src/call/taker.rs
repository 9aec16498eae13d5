//! Who waits for a call, and so gets its outcome.

use super::outcome::Outcome;
use super::stops::Stops;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use syncline_core::outbox::Publish;
use syncline_core::sync::Mutex;

pub type Published = Arc<dyn Publish + Send + Sync>;
pub type Outbox = syncline_core::outbox::Outbox<Published>;

/// Who gets the outcome, and how it is told.
pub enum Taker {
    /// A thread that sleeps at the slot. It is woken when the loop's thread lets go of the interpreter; or at once,
    /// if it has waited for so long that the delay saves nothing.
    Sleeper { outbox: Arc<Outbox>, waits_long: AtomicBool },
    /// A thread that sleeps at the slot of a call on a loop without an outbox. It is woken at once.
    SleeperOfOthers,
    /// The thread that drives the call's loop: `driven` is that loop, which is stopped. A nested call that blocks the
    /// loop also blocks this thread, which can't cancel the call in time then. So the call knows the deadline, too.
    Driver { driven: Mutex<Option<DrivenLoop>>, deadline: Option<Instant>, thread: u64 },
    /// A future, of `submit`.
    Future(Mutex<Option<Promised>>),
    /// A task of another loop, until it is told or stops waiting. It is told at once: the loop's thread may run sync code
    /// in this turn that waits for that task.
    Task(Mutex<Option<Arc<dyn Receiver>>>),
}

/// A loop that a thread drives, and how it is stopped.
pub struct DrivenLoop {
    pub event_loop: Py<PyAny>,
    pub stops: Stops,
}

impl DrivenLoop {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { event_loop: self.event_loop.clone_ref(py), stops: self.stops.clone_ref(py) }
    }
}

/// A task of another loop that awaits a call.
pub trait Receiver: Publish + Send + Sync {
    /// The outcome is there. What is left to do without the interpreter, to tell the task's loop, follows by `publish`.
    fn receive(self: Arc<Self>, py: Python<'_>, outcome: Outcome);
}

/// What a submitted call is to settle.
pub struct Promised {
    pub future: Py<PyAny>,
    /// Kept until then: it keeps the call's loop from being closed, and says who may wait for that. Its type is defined in
    /// a room that this one must not use.
    pub keeps: Arc<dyn Any + Send + Sync>,
}

impl Taker {
    pub fn sleeper(outbox: &Arc<Outbox>) -> Self {
        Self::Sleeper { outbox: Arc::clone(outbox), waits_long: AtomicBool::new(false) }
    }

    pub fn task(receiver: Arc<dyn Receiver>) -> Self {
        Self::Task(Mutex::new(Some(receiver)))
    }

    /// What sends a call that no thread waits for, in a user's word.
    pub fn sent_by(&self) -> Option<&'static str> {
        match self {
            Self::Future(_) => Some("submit"),
            Self::Task(_) => Some("run_async"),
            Self::Sleeper { .. } | Self::SleeperOfOthers | Self::Driver { .. } => None,
        }
    }

    /// For a nested call that blocks the loop: when the waiting thread would end the call, and can't.
    pub fn deadline(&self) -> Option<Instant> {
        if let Self::Driver { deadline, .. } = self { *deadline } else { None }
    }

    /// Whether a thread waits for the call: for a future, and for a task, none does.
    pub fn is_a_thread(&self) -> bool {
        !matches!(self, Self::Future(_) | Self::Task(_))
    }
}
