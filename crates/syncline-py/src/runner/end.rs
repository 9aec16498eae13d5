//! How a runner ends: it is told to, and ends what is left on its loop.
//!
//! Invariants:
//! 1. A thread that waits for a call sees by itself that the loop is gone. Whoever waits for a future of `submit`, and
//!    a task that awaits `run_async`, see nothing of the kind, so whoever closes the runner tells them.

use super::hop;
use super::state::{Feeder, Job, Runner};
use crate::call::state::Call;
use crate::call::wait::{Patience, Wait};
use crate::python::errors;
use crate::python::once::intern;
use crate::python::residents::{Resident, Shown};
use crate::python::signals;
use crate::python::surroundings::Backend;
use crate::task::loop_cleanup::clean_up;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::latch::Latch;

impl Runner {
    /// Tells the runner to end, without waiting for it.
    pub fn begin_closing(self: &Arc<Self>, py: Python<'_>) {
        self.note_closing();
        // If the mailbox takes nothing any more, the runner is ending already.
        let _ = self.post(py, Job::Stop);
    }

    /// Adds a call to those whose takers are told if the loop ends first (by 1).
    pub fn tell_of_end(self: &Arc<Self>, py: Python<'_>, call: &Arc<Call>) -> PyResult<()> {
        self.told_of_end.add(Arc::downgrade(call));
        self.note_host(call);
        self.watch_for_standing(py)
    }

    /// Tells the takers of such calls that have not ended. `cleanup` is the time that the calls have had to
    /// clean up, if they had it in vain: that is reported.
    pub fn leave_behind(&self, py: Python<'_>, cleanup: Option<Duration>) {
        for call in self.told_of_end.take().iter().filter(|call| !call.is_settled()) {
            if call.leave_behind(py, self.gone(py)) {
                call.leave_alone(py, cleanup);
            }
        }
    }

    /// Ends what is left on the loop, and closes it; in the runner's own thread.
    pub fn shut_down(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        for job in self.mailbox.close() {
            match job {
                Job::Start(call, target, run_in) => {
                    if hop::is_sent_anew(&call, &run_in) {
                        call.extras().give_back(Box::new((target, run_in)));
                    } else {
                        target.discard(py);
                    }
                    call.lose(py, errors::closed_meanwhile(py, &self.name));
                }
                // Tasks that still have to clean up may wait for it.
                Job::Arrival(arrival) => arrival.arrive(py),
                Job::Cancel(_) | Job::Do(_) | Job::Stop => {}
            }
        }
        let cleaned = match self.backend {
            Backend::Asyncio => {
                clean_up(py, event_loop, self.cleanup, &self.name, &mut Wait::begin(Patience::endless()))
            }
            // A trio run ends its tasks itself, before it returns.
            Backend::Trio => Ok(()),
        };
        // What is left are calls whose tasks refuse to end. That was logged, so no time is given here.
        self.leave_behind(py, None);
        let closed = event_loop.call_method0(intern!(py, "close"));
        // After that: what comes later for the loop is refused.
        for arrival in self.told_when_gone.take() {
            arrival.be_lost(py);
        }
        cleaned.and(closed.map(drop))
    }
}

impl Resident for Runner {
    fn description(&self) -> String {
        format!("the loop of the runner {:?} (started at {})", self.name, self.started_at)
    }

    fn scope(&self) -> &'static str {
        self.scope()
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.event_loop(py).cloned()
    }

    fn own_thread(&self) -> Option<u64> {
        Some(self.thread_id())
    }

    fn shown(&self) -> Shown {
        let is_asleep = (self.feeder() == Feeder::Selector).then(|| self.is_asleep());
        Shown { name: self.name.to_string(), is_asleep }
    }

    fn submitted<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyAny>>> {
        let calls = self.told_of_end.alive();
        calls.iter().filter(|call| call.is_promised()).map(|call| call.task(py)).collect()
    }

    fn cleanup(&self) -> Duration {
        self.cleanup
    }

    fn ended(&self) -> &Latch {
        &self.ended
    }

    fn is_about_to_end(&self, py: Python<'_>) -> bool {
        // Not by `join`: that asks for the current thread, and `threading` would make up a new one if this thread is
        // ending.
        let is_alive = || {
            self.thread
                .get(py)
                .map_or(Ok(false), |thread| thread.call_method0(py, intern!(py, "is_alive"))?.is_truthy(py))
        };
        signals::through(py, is_alive).unwrap_or(false)
    }

    fn begin_end(self: Arc<Self>, py: Python<'_>) {
        self.begin_closing(py);
    }

    fn free_waiters(&self, py: Python<'_>) {
        self.leave_behind(py, Some(self.cleanup));
    }
}
