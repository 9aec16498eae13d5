//! The call around a nested one that blocks its loop, and how the nested one learns that it is to end.
//!
//! The loop can't deliver a cancellation while it is blocked. The nested call delivers it, by what it raises.

use super::state::Call;
use super::stepping::stepped_call;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;

pub struct Outer {
    call: Arc<Call>,
    listening: Option<Listening>,
}

impl Outer {
    /// The call of which this thread runs a step.
    pub fn here() -> Option<Self> {
        stepped_call().map(|call| Self { call, listening: None })
    }

    /// Whether it is to be cancelled, and the nested call with it. Says yes only once.
    pub fn is_to_end(&self, py: Python<'_>, now: Instant) -> bool {
        let outer = &self.call;
        let is_asked = outer.is_to_be_cancelled(now);
        if is_asked {
            outer.take_over_cancelling();
        } else if !outer.is_untold() {
            return false;
        }
        if !signals::ask(py, || surroundings::is_in_trio_task(py)) {
            return is_asked;
        }
        // Code in trio may raise `Cancelled` only where a scope around it is cancelled, so the task is cancelled first.
        // Or it was cancelled before this turn of its, which trio tells it where it awaits next. Where the code is
        // shielded from that, it goes on.
        let cancelled = if is_asked { outer.cancel(py) } else { Ok(()) };
        let is_cancelled = cancelled.and_then(|()| surroundings::is_cancelled_in_trio(py)).unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            false
        });
        if is_cancelled {
            outer.note_cancelled();
        }
        is_cancelled
    }

    /// Has the thread that waits for `nested` roused if somebody asks for the end of the outer call from now on; what
    /// came before is to be looked for. False if it was so already.
    pub fn listen(&mut self, nested: &Arc<Call>) -> bool {
        let is_new = self.listening.is_none();
        self.listening.get_or_insert_with(|| Listening::begin(&self.call, nested));
        is_new
    }

    /// When it is to end though nobody asks for that, if that is still to come.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.call.taker.deadline().filter(|at| *at > now)
    }
}

struct Listening {
    epoch: u32,
    outer: Arc<Call>,
    nested: Arc<Call>,
}

impl Listening {
    fn begin(outer: &Arc<Call>, nested: &Arc<Call>) -> Self {
        outer.at_home(|home| home.closing.add(nested));
        Self { epoch: process::epoch(), outer: Arc::clone(outer), nested: Arc::clone(nested) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // In a forked child another thread may have held the lock.
        if self.epoch == process::epoch() {
            self.outer.at_home(|home| home.closing.remove(&self.nested));
        }
    }
}
