//! How a runner ends: it is told to, waited for, and those who wait for what it runs are freed.
//!
//! Invariants:
//! 1. Every wait here has a bound, which counts from the moment at which the closing began: many runners that are
//!    blocked take no longer than one. 2. Callers that wait for a call free themselves; those who wait for a future are
//!    freed by whoever closes the runner, as nobody looks after it for them.

use crate::call::state::{Call, Outcome};
use crate::call::wait;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::runner::state::{Backend, Job, Runner};
use crate::task::loop_cleanup::clean_up;
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::sync::lock;

/// What closing may take beyond the cleanup time, for a busy machine.
pub const CLOSING_SLACK: Duration = Duration::from_secs(1);

impl Runner {
    /// Tells the runner to end, without waiting for it.
    pub fn begin_closing(self: &Arc<Self>, py: Python<'_>) {
        self.closing.store(true, Release);
        // One that takes no more mail is ending already.
        let _ = self.post(py, Job::Stop);
    }

    /// Adds a submitted call to those that are told if the loop ends without them.
    pub fn remember_submitted(&self, call: &Arc<Call>) {
        let mut submitted = lock(&self.submitted);
        if submitted.len() == submitted.capacity() {
            submitted.retain(|known| known.strong_count() > 0);
            // As many again: no submit pays for more than a few others.
            let alive = submitted.len().max(16);
            submitted.reserve(alive);
        }
        submitted.push(Arc::downgrade(call));
    }

    /// Settles the futures of submitted calls that have not ended.
    fn leave_submitted_behind(&self, py: Python<'_>, is_orphan: bool) {
        let submitted = std::mem::take(&mut *lock(&self.submitted));
        for call in submitted.iter().filter_map(Weak::upgrade).filter(|call| !call.is_settled()) {
            if call.leave_behind(py) && is_orphan {
                wait::orphaned(py, &call, &self.name, self.cleanup.as_secs_f64());
            }
        }
    }

    /// Waits for the end of a runner that was told to at `begun`; by 2, if that takes longer than the cleanup.
    pub fn free_waiters(&self, py: Python<'_>, begun: Instant) {
        let left = (self.cleanup + CLOSING_SLACK / 2).saturating_sub(begun.elapsed());
        if !py.detach(|| self.ended.wait_through(Some(left))) {
            self.leave_submitted_behind(py, true);
        }
    }

    /// Waits for the end of a runner that was told to at `begun`. False if it did not come in time.
    pub fn finish_closing(&self, py: Python<'_>, begun: Instant) -> PyResult<bool> {
        self.free_waiters(py, begun);
        let left = (self.cleanup * 2 + CLOSING_SLACK).saturating_sub(begun.elapsed());
        let ended = py.detach(|| self.ended.wait_through(Some(left)));
        if !ended {
            let message =
                format!("the runner {:?} does not end: something blocks its loop; it is left behind", self.name);
            names::log(py, "warning", &message, None);
            return Ok(false);
        }
        let Some(thread) = self.thread.get(py) else { return Ok(true) };
        // The last few steps of the thread. Not `join`: called in a thread that ends itself, it would make `threading`
        // believe that there is a new one.
        let deadline = Instant::now() + CLOSING_SLACK;
        while thread.call_method0(py, intern!(py, "is_alive"))?.is_truthy(py)? && Instant::now() < deadline {
            py.detach(|| std::thread::sleep(Duration::from_micros(50)));
        }
        Ok(true)
    }

    /// Ends what is left on the loop, and closes it; in the runner's own thread.
    pub fn shut_down(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        for job in self.mailbox.close() {
            if let Job::Start(call, target, _) = job {
                target.discard(py);
                call.settle(py, Outcome::Raised(errors::closed_meanwhile(py, &self.name)));
            }
        }
        let cleaned = match self.backend {
            Backend::Asyncio => clean_up(py, event_loop, self.cleanup, &self.name),
            // A trio run has ended its tasks before it came to its end.
            Backend::Trio => Ok(()),
        };
        // Those whose tasks refuse to end, which was logged.
        self.leave_submitted_behind(py, false);
        let closed = event_loop.call_method0(intern!(py, "close"));
        cleaned.and(closed.map(drop))
    }
}
