//! One call: what both sides of a hop know of it, and how it is settled.
//!
//! Invariants:
//! 1. A call is settled once; what comes later is dropped, and an error among it is logged.
//! 2. A suspended call keeps its task alive (a loop refers to its tasks weakly): call -> task -> coroutine -> call, a
//!    ring that settling opens. 3. No Python object is dropped while detached (PyO3 keeps those in a list with a lock,
//!    which a fork in another thread could find taken): when the outbox drops the last reference to a call, its result
//!    has been taken or was dropped by whoever gave up waiting.

use crate::errors;
use crate::names;
use crate::once::intern;
use crate::outbox::Outbox;
use crate::process;
use crate::runner::Runner;
use crate::work::Work;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use syncline_core::slot::Slot;
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

/// Loops round their timers, and uvloop reads its clock once a turn: they may be early by a little.
pub const TIMER_SLACK: Duration = Duration::from_millis(10);

pub enum Outcome {
    Returned(Py<PyAny>),
    Raised(PyErr),
}

pub struct Call {
    pub slot: Slot<Outcome>,
    outbox: Option<Arc<Outbox>>,
    runner_name: Arc<str>,
    /// By 2: there while the call is suspended.
    task: Mutex<Option<Py<PyAny>>>,
    /// `loop.stop` of a loop that its caller drives until the call is settled.
    stop: Mutex<Option<Py<PyAny>>>,
    /// The future to settle, for `submit`; else the slot is filled.
    future: Mutex<Option<Py<PyAny>>>,
    is_submitted: bool,
    /// Whether the loop that runs it is being closed.
    closing: Arc<AtomicBool>,
    /// When its caller will cancel it, for a caller that drives the loop itself and so can't.
    deadline: Option<Instant>,
    /// Its caller has asked for its end; a nested call that blocks the loop sees that, and delivers it.
    cancelling: AtomicBool,
    cancellations: AtomicU32,
    /// Its coroutine has been cancelled because the call is over: what it still does is its cleanup, which a nested call
    /// may be a part of.
    told: AtomicBool,
    /// It was a nested call that told it so, by what it raised: its task has not been cancelled, and need not be.
    told_by_nested: AtomicBool,
    settled: AtomicBool,
    abandoned: AtomicBool,
    /// The worker thread's call that waits for this one, in `from_thread`.
    pub waiting_work: OnceLock<Weak<Work>>,
    pub stats: Arc<Stats>,
}

impl Call {
    pub fn on_runner(runner: &Runner, stats: Arc<Stats>, future: Option<Py<PyAny>>) -> Arc<Self> {
        let closing = Arc::clone(&runner.closing);
        Self::new(Some(Arc::clone(&runner.outbox)), Arc::clone(&runner.name), closing, None, stats, future)
    }

    /// For a loop that the caller drives itself: nobody has to be woken.
    pub fn on_own_loop(
        name: &Arc<str>,
        closing: Arc<AtomicBool>,
        deadline: Option<Instant>,
        stats: Arc<Stats>,
    ) -> Arc<Self> {
        Self::new(None, Arc::clone(name), closing, deadline, stats, None)
    }

    fn new(
        outbox: Option<Arc<Outbox>>,
        runner_name: Arc<str>,
        closing: Arc<AtomicBool>,
        deadline: Option<Instant>,
        stats: Arc<Stats>,
        future: Option<Py<PyAny>>,
    ) -> Arc<Self> {
        stats.calls.add(1);
        Arc::new(Self {
            slot: Slot::new(),
            outbox,
            runner_name,
            task: Mutex::new(None),
            stop: Mutex::new(None),
            is_submitted: future.is_some(),
            future: Mutex::new(future),
            closing,
            deadline,
            cancelling: AtomicBool::new(false),
            cancellations: AtomicU32::new(0),
            told: AtomicBool::new(false),
            told_by_nested: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            waiting_work: OnceLock::new(),
            stats,
        })
    }

    pub fn runner_name(&self) -> &str {
        &self.runner_name
    }

    pub fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Remembers the task of a call that is suspended.
    pub fn suspended_in(&self, task: Bound<'_, PyAny>) {
        if !self.is_settled() {
            *lock(&self.task) = Some(task.unbind());
        }
    }

    /// The task, while the call is suspended.
    pub fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.task).as_ref().map(|task| task.bind(py).clone())
    }

    /// For the caller that drives the loop of a suspended call.
    pub fn stop_when_settled(&self, stop: Option<Py<PyAny>>) {
        let replaced = std::mem::replace(&mut *lock(&self.stop), stop);
        drop(replaced);
    }

    /// Asks for the end of the call. A `Job::Cancel` has to follow.
    pub fn begin_cancelling(&self) {
        self.cancelling.store(true, Relaxed);
    }

    /// A nested call that blocks the loop brings about the end itself.
    pub fn take_over_cancelling(&self) {
        self.cancelling.store(false, Relaxed);
        self.note_cancelled();
        self.told_by_nested.store(self.closing.load(Relaxed), Relaxed);
    }

    /// Whether it learned from a nested call that its loop is being closed: to cancel it would break off its cleanup.
    pub fn knows_of_closing(&self) -> bool {
        self.told_by_nested.load(Relaxed)
    }

    pub fn is_to_be_cancelled(&self, now: Instant) -> bool {
        self.cancelling.load(Relaxed) || (!self.told.load(Relaxed) && self.is_over(now))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.closing.load(Relaxed) || self.deadline.is_some_and(|at| at <= now)
    }

    /// Its coroutine gets a `CancelledError`; not the last one, if the call is not over: `asyncio.timeout` cancels, too.
    pub fn note_cancelled(&self) {
        if self.is_over(Instant::now() + TIMER_SLACK) {
            self.told.store(true, Relaxed);
        }
    }

    /// For `Job::Cancel`: cancels the task, unless a nested call has delivered that already.
    pub fn cancel_if_asked(&self, py: Python<'_>) -> PyResult<()> {
        if self.cancelling.swap(false, Relaxed) { self.cancel(py) } else { Ok(()) }
    }

    /// The same where the task may not have been made yet: whoever makes it looks then.
    pub fn cancel_if_asked_and_begun(&self, py: Python<'_>) -> PyResult<()> {
        if self.task(py).is_some() { self.cancel_if_asked(py) } else { Ok(()) }
    }

    /// Cancels the task; for the loop's thread.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self.task(py) {
            Some(task) if !self.is_settled() => {
                self.cancellations.fetch_add(1, Relaxed);
                task.call_method0(intern!(py, "cancel")).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether its task has been cancelled on its behalf.
    pub fn was_cancelled(&self) -> bool {
        self.cancellations.load(Relaxed) > 0
    }

    /// How often its task was cancelled on its behalf.
    pub fn take_cancellations(&self) -> u32 {
        self.cancellations.swap(0, Relaxed)
    }

    /// The call has ended; for any thread, attached.
    pub fn settle(self: &Arc<Self>, py: Python<'_>, outcome: Outcome) {
        if self.settled.swap(true, Relaxed) {
            return;
        }
        drop(lock(&self.task).take());
        if let Outcome::Raised(error) = &outcome {
            if error.is_instance_of::<PyRuntimeError>(py) {
                // Before Python 3.12 an exception does not have its traceback until it is raised again.
                let _ = error.value(py).setattr(intern!(py, "__traceback__"), error.traceback(py));
                explain_loop_mixup(error.value(py).as_any(), None);
            }
            if self.abandoned.load(Relaxed) && !is_cancelled(py, error) {
                names::log(py, "error", "a call that its caller had stopped waiting for raised an error", Some(error));
            }
        }
        if self.is_submitted {
            let outcome = self.explained(py, outcome);
            self.settle_future(py, outcome);
            return;
        }
        // By 1 there is nothing in the slot yet.
        let _ = self.slot.fill(outcome);
        if self.abandoned.load(SeqCst) {
            // By 3.
            drop(self.slot.take());
        }
        match &self.outbox {
            Some(outbox) => outbox.add(self),
            None => self.slot.publish(),
        }
        let stop = lock(&self.stop).take();
        if let Some(Err(error)) = stop.map(|stop| stop.call0(py)) {
            error.write_unraisable(py, None);
        }
    }

    /// False if the future had its result already.
    fn settle_future(&self, py: Python<'_>, outcome: Outcome) -> bool {
        let Some(future) = lock(&self.future).take() else { return false };
        self.stats.ended.add(1);
        if let Err(error) = settle_future(future.bind(py), outcome) {
            error.write_unraisable(py, Some(future.bind(py)));
        }
        true
    }

    /// The loop of a submitted call is closed, or blocked, without it: its future says so. True if it was not settled.
    pub fn leave_behind(&self, py: Python<'_>) -> bool {
        // Before the future is taken: what `settle` finds taken it has to log.
        self.abandon(py);
        self.settle_future(py, Outcome::Raised(errors::closed_meanwhile(py, &self.runner_name)))
    }

    /// What cancelled a submitted call, if its loop was closed.
    fn explained(&self, py: Python<'_>, outcome: Outcome) -> Outcome {
        let is_closing = self.closing.load(Relaxed);
        match outcome {
            Outcome::Raised(error) if is_closing && is_cancelled(py, &error) => {
                Outcome::Raised(errors::from_cause(py, errors::closed_meanwhile(py, &self.runner_name), error))
            }
            outcome => outcome,
        }
    }

    pub fn publish(&self) {
        self.slot.publish();
    }

    /// The result, if there is one.
    pub fn take(&self) -> Option<Outcome> {
        self.slot.take()
    }

    /// Nobody waits any more; an error that comes later is logged. Attached: by 3 a result that came too late goes here.
    pub fn abandon(&self, _py: Python<'_>) {
        self.abandoned.store(true, SeqCst);
        drop(self.slot.take());
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}

fn settle_future(future: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
    let py = future.py();
    // False if the future was cancelled, which is how this call came to its end.
    if !future.call_method0(intern!(py, "set_running_or_notify_cancel"))?.is_truthy()? {
        return Ok(());
    }
    match outcome {
        Outcome::Returned(value) => future.call_method1(intern!(py, "set_result"), (value,)),
        Outcome::Raised(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
    }
    .map(drop)
}

/// Whether a bridge was made that runs coroutines with trio.
pub static HAS_TRIO: AtomicBool = AtomicBool::new(false);

pub fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    names::cancelled_error(py).is_ok_and(|class| error.is_instance(py, class)) || is_trio_cancelled(py, error)
}

pub fn is_trio_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    HAS_TRIO.load(Relaxed) && names::trio_cancelled(py).is_ok_and(|class| error.is_instance(py, class))
}

/// asyncio names a wrong loop by its address only; a note says which loop that is and what to do.
pub fn explain_loop_mixup(error: &Bound<'_, PyAny>, awaited: Option<&Bound<'_, PyAny>>) {
    let py = error.py();
    if !error.is_instance_of::<PyRuntimeError>() {
        return;
    }
    let explain = || -> PyResult<()> {
        // asyncio's words, and aiohttp's.
        let text = error.str()?;
        let texts = ["different loop", "different event loop", "Event loop is closed", "should be used inside a task"];
        if !texts.iter().any(|known| text.to_str().is_ok_and(|text| text.contains(known))) {
            return Ok(());
        }
        let explain = py.import("syncline._diagnosis")?.getattr("explain_loop_mixup")?;
        let note = explain.call1((error, process::loop_owners(py)?, awaited))?;
        if !note.is_none() {
            error.call_method1("add_note", (note,))?;
        }
        Ok(())
    };
    // An explanation that fails must not hide what it explains.
    if let Err(failed) = explain() {
        failed.write_unraisable(py, None);
    }
}
