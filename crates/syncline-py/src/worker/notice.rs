//! How a loop is told that something has come for it.
//!
//! A loop that spins reacts at once, and then needs the interpreter, which the telling thread would still hold. So what
//! needs the interpreter is done first (`prepare`), and the rest when the telling thread has let go of it (`send`).

use super::late;
use crate::runner::arrival::Arrival;
use crate::runner::state::{Job, Runner};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::mailbox::SendError;
use syncline_core::meeting::Meeting;
use syncline_core::spin::current_cpu;

/// The inbox of a loop that is told by notices. (A trait, as notices are below inboxes.)
pub trait Recipient: Send + Sync {
    /// Brings something to it; attached. The notice that it returns has to be sent. One that lays something there is not
    /// sent where the loop has seen to that by itself.
    fn put(self: Arc<Self>, py: Python<'_>, arrival: Arc<dyn Arrival>) -> Option<Notice>;
    /// Lays it there and wakes the loop, if that can be told without the interpreter. Gives it back if the loop is gone.
    fn lay(&self, arrival: Arc<dyn Arrival>) -> Result<(), Arc<dyn Arrival>>;
    /// Schedules a callback on the loop, if the loop can only be told that way. True if it did: the loop is told.
    fn is_scheduled(self: Arc<Self>, py: Python<'_>) -> bool;
    /// Wakes a loop that can be told without the interpreter.
    fn wake(&self);
}

#[must_use]
pub enum Notice {
    /// To be laid into a runner's mailbox.
    Mail(Arc<Runner>, Option<Arc<dyn Arrival>>),
    /// To be laid into the inbox. Not before it is sent: what lies there without the loop being told keeps all that
    /// comes later from being told.
    Lay(Arc<dyn Recipient>, Option<Arc<dyn Arrival>>),
    /// There is mail in the inbox.
    Wake(Arc<dyn Recipient>),
    /// The loop's thread waits for this arrival at this moment, detached: it is met there.
    Meeting(Arc<Meeting>, Arc<dyn Recipient>, Arc<dyn Arrival>),
    /// It has left the meeting, and is to be told in the usual way.
    Missed(Arc<dyn Recipient>, Arc<dyn Arrival>),
    /// The runner is ending, and its mailbox takes nothing any more.
    Late(Arc<Runner>, Arc<dyn Arrival>),
    /// The loop is gone.
    Lost(Arc<dyn Arrival>),
}

impl Notice {
    /// Does what needs the interpreter. `None` if nothing is left to do.
    pub fn prepare(self, py: Python<'_>) -> Option<Self> {
        match self {
            Self::Wake(inbox) if Arc::clone(&inbox).is_scheduled(py) => None,
            Self::Missed(inbox, arrival) => inbox.put(py, arrival).and_then(|notice| notice.prepare(py)),
            Self::Late(runner, arrival) => {
                late::bring(py, &runner, arrival);
                None
            }
            Self::Lost(arrival) => {
                arrival.be_lost(py);
                None
            }
            prepared => Some(prepared),
        }
    }

    /// Does the rest; to be called once, attached or not. What it returns has to be sent while attached. The notice
    /// itself has to be dropped while attached, as it may have the last reference to Python objects.
    pub fn send(&mut self) -> Option<Self> {
        match self {
            Self::Mail(runner, arrival) => {
                runner.caller_cpu.store(current_cpu(), Relaxed);
                match runner.send(Job::Arrival(arrival.take()?)) {
                    Ok(_) => {}
                    Err(SendError(Job::Arrival(arrival))) => {
                        return Some(Self::Late(Arc::clone(runner), arrival));
                    }
                    Err(_) => unreachable!("the job is the one made above"),
                }
                None
            }
            Self::Lay(inbox, arrival) => inbox.lay(arrival.take()?).err().map(Self::Lost),
            Self::Wake(inbox) => {
                inbox.wake();
                None
            }
            Self::Meeting(meeting, inbox, arrival) => {
                (!meeting.meet()).then(|| Self::Missed(Arc::clone(inbox), Arc::clone(arrival)))
            }
            Self::Missed(..) | Self::Late(..) | Self::Lost(..) => None,
        }
    }

    pub fn send_now(self, py: Python<'_>) {
        let mut next = Some(self);
        while let Some(mut prepared) = next.take().and_then(|notice| notice.prepare(py)) {
            next = prepared.send();
        }
    }
}
