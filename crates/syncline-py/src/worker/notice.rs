//! How a loop is told that something has come for it.
//!
//! A loop that spins comes at once, and would collide with a thread that still holds the interpreter. So what needs the
//! interpreter comes first (`prepare`), and the rest when the telling thread has let go of it (`send`).

use crate::runner::arrival::Arrival;
use crate::runner::state::{Job, Runner};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::mailbox::{SendError, Sent};
use syncline_core::meeting::Meeting;
use syncline_core::spin::current_cpu;

/// A loop that is told by a notice.
pub trait Recipient: Send + Sync {
    /// Lays something into its inbox; attached. What comes back is to be sent.
    fn put(self: Arc<Self>, py: Python<'_>, arrival: Arc<dyn Arrival>) -> Option<Notice>;
    /// Has the loop come round, if that takes the interpreter. True if nothing is left to do.
    fn is_scheduled(self: Arc<Self>, py: Python<'_>) -> bool;
    /// The same if it does not.
    fn wake(&self);
}

#[must_use]
pub enum Notice {
    /// To be laid into a runner's mailbox.
    Mail(Arc<Runner>, Option<Arc<dyn Arrival>>),
    /// There is mail in the inbox.
    Wake(Arc<dyn Recipient>),
    /// The loop's thread waits there at this moment, detached.
    Meeting(Arc<Meeting>, Arc<dyn Recipient>, Arc<dyn Arrival>),
    /// It has gone, and is to be told in the usual way.
    Missed(Arc<dyn Recipient>, Arc<dyn Arrival>),
    /// The loop takes nothing any more.
    Lost(Arc<dyn Arrival>),
}

impl Notice {
    /// What of it needs the interpreter. `None` if nothing is left to do.
    pub fn prepare(self, py: Python<'_>) -> Option<Self> {
        match self {
            Self::Wake(inbox) if Arc::clone(&inbox).is_scheduled(py) => None,
            Self::Missed(inbox, arrival) => inbox.put(py, arrival).and_then(|notice| notice.prepare(py)),
            Self::Lost(arrival) => {
                arrival.be_lost(py);
                None
            }
            prepared => Some(prepared),
        }
    }

    /// Once; for any thread, attached or not. What comes back is to be sent attached, and this to be dropped so: it may be
    /// the last that refers to Python's objects.
    pub fn send(&mut self) -> Option<Self> {
        match self {
            Self::Mail(runner, arrival) => {
                runner.caller_cpu.store(current_cpu(), Relaxed);
                match runner.mailbox.send(Job::Arrival(arrival.take()?)) {
                    Ok(Sent::WakeTheLoop) => runner.wake(),
                    Ok(Sent::LoopIsAwake) => {}
                    Err(SendError(Job::Arrival(arrival))) => return Some(Self::Lost(arrival)),
                    Err(_) => unreachable!("the job is the one made above"),
                }
                None
            }
            Self::Wake(inbox) => {
                inbox.wake();
                None
            }
            Self::Meeting(meeting, inbox, arrival) => {
                (!meeting.meet()).then(|| Self::Missed(Arc::clone(inbox), Arc::clone(arrival)))
            }
            Self::Missed(..) | Self::Lost(_) => None,
        }
    }

    pub fn send_now(self, py: Python<'_>) {
        let mut next = Some(self);
        while let Some(mut prepared) = next.take().and_then(|notice| notice.prepare(py)) {
            next = prepared.send();
        }
    }
}
