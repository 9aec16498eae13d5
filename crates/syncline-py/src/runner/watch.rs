//! What a caller looks at when its wait is long: whether the loop turns, and whether the wait can ever end.

use super::lookout::Seat;
use super::state::{Feeder, Runner};
use crate::call::state::Call;
use crate::call::waiter;
use crate::python::errors;
use crate::python::log;
use crate::python::long_waits::LongWait;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a long wait is examined for deadlocks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What others know of a wait.
struct Known {
    /// For reports.
    wait: LongWait,
    /// For who looks after the runner.
    seat: Seat,
}

pub struct Watch {
    begun: Instant,
    stall_after: Option<Duration>,
    next_check: Instant,
    /// There from the first long sleep on, or, if stalls are reported, from the first look on.
    known: Option<Known>,
    /// Whether it is enough that the keeper looks, from the first check on.
    is_relieved: bool,
    /// Whether `report_own_stall` was called, which is done once a wait.
    told_of_own: bool,
    /// In a worker thread: how often tokens of its limiter had changed hands at the last check.
    seen_moves: Option<u64>,
}

impl Watch {
    pub fn new(begun: Instant, stall_after: Option<Duration>) -> Self {
        Self {
            begun,
            stall_after,
            next_check: begun + CHECK_INTERVAL,
            known: None,
            is_relieved: false,
            told_of_own: false,
            seen_moves: None,
        }
    }

    /// When to look next; `None` if another one looks.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let keeps = self.known.as_ref().is_some_and(|known| known.seat.keep());
        if self.is_relieved && !keeps {
            return None;
        }
        Some(self.stall_after.map_or(self.next_check, |span| self.next_check.min(now + span / 2)))
    }

    /// Whether this thread hears what it has to know: from then on it need not look for that.
    pub fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Has the others look for themselves, if this thread does it for them: the loop is gone.
    pub fn tell_others(&self, runner: &Runner) {
        if self.known.as_ref().is_some_and(|known| known.seat.is_keeper()) {
            runner.lookout.rouse_all();
        }
    }

    /// This thread is about to do something that may take long.
    pub fn hand_over(&self) {
        if let Some(known) = &self.known {
            known.seat.hand_over();
        }
    }

    /// Makes the wait known to reports, before the thread sleeps for long.
    pub fn make_known(&mut self, py: Python<'_>, runner: &Arc<Runner>, call: &Arc<Call>) {
        let loop_thread = runner.thread_id();
        // The thread of a loop that somebody else runs may be known only when it has begun to run.
        if self.known.as_ref().is_some_and(|known| known.wait.is_for(loop_thread)) {
            return;
        }
        let subject: Arc<Call> = Arc::clone(call);
        let Ok(wait) = LongWait::begin(py, loop_thread, self.begun, subject) else { return };
        match &mut self.known {
            Some(known) => known.wait = wait,
            // The main thread may be busy with a signal's handler.
            None => {
                self.known = Some(Known { wait, seat: Seat::take(&runner.lookout, call, !process::is_main_thread(py)) })
            }
        }
    }

    /// Raises DeadlockError if this wait can't end; reports what blocks the loop.
    pub fn look(
        &mut self,
        py: Python<'_>,
        runner: &Arc<Runner>,
        call: &Arc<Call>,
        is_nested: bool,
        now: Instant,
    ) -> PyResult<()> {
        let turns = runner.turns();
        if runner.feeder() == Feeder::Handles && self.stall_after.is_some() {
            // libuv does not say when it has slept: callbacks for descriptors are a part of its sleep. A loop that can turn
            // has turned by the next look.
            runner.wake();
        }
        let since = runner.lookout.in_turn_since(turns, now).max(self.begun);
        if let Some(span) = self.stall_after {
            // A report of a stall shows all who wait, so this wait is made known before there is one.
            self.make_known(py, runner, call);
            if !runner.is_asleep() && now - since >= span && runner.is_first_to_report(turns) {
                let waiting = call.stats.calls.get() - call.stats.ended.get();
                report_stall(py, runner, now - since, waiting);
            }
            // Not for a nested call: there the caller of the outer call reports the stall of that loop.
            if !is_nested && now - self.begun >= span && !self.told_of_own {
                self.told_of_own = true;
                report_own_stall(py, runner, call, now - self.begun);
            }
        }
        let is_alarmed = self.known.as_mut().is_some_and(|known| known.seat.hears_alarm());
        if now < self.next_check && !is_alarmed {
            return Ok(());
        }
        self.next_check = now + CHECK_INTERVAL;
        if let Some(job) = waiter::here() {
            job.look_after(py, &mut self.seen_moves);
        }
        match self.find_deadlock(py, runner, call, now > since) {
            Ok(None) => self.relieve(py, runner, is_nested),
            Ok(Some(report)) => return Err(errors::deadlock(py, report)),
            Err(error) => signals::keep_unless_exception(py, error),
        }
        Ok(())
    }

    /// From now on the keeper looks for this thread, unless something is to be seen from this one alone.
    fn relieve(&mut self, py: Python<'_>, runner: &Runner, is_nested: bool) {
        if self.is_relieved || is_nested || waiter::here().is_some() || runner.thread_id() == 0 {
            return;
        }
        let has_to_tell_of_own = self.stall_after.is_some() && !self.told_of_own;
        let is_special = || -> PyResult<bool> {
            let is_only_worker = || py.import("syncline._diagnosis")?.getattr("is_only_worker")?.call0()?.extract();
            Ok(names::running_loop(py)?.is_some() || is_only_worker()?)
        };
        let is_special = has_to_tell_of_own
            || is_special().unwrap_or_else(|error| {
                signals::keep_unless_exception(py, error);
                true
            });
        self.is_relieved = !is_special;
    }

    /// Looks whether the calling thread, which waits for a call on `runner`, can ever be woken. Returns the report if
    /// not.
    fn find_deadlock(
        &mut self,
        py: Python<'_>,
        runner: &Arc<Runner>,
        call: &Arc<Call>,
        has_stood_still: bool,
    ) -> PyResult<Option<String>> {
        self.make_known(py, runner, call);
        let Some(Known { wait, seat }) = &self.known else { return Ok(None) };
        if runner.feeder() != Feeder::Selector || (has_stood_still && !runner.is_asleep()) {
            if let Some(report) = wait.is_blocked(py)? {
                return Ok(Some(report));
            }
            if seat.is_keeper() && wait.is_in_a_circle(py)? {
                runner.lookout.alarm();
            }
        }
        if !has_stood_still || !runner.is_asleep() {
            return Ok(None);
        }
        let diagnosis = |name: &str| py.import("syncline._diagnosis")?.getattr(name);
        match (names::running_loop(py)?, runner.event_loop(py), call.task(py)) {
            (Some(waiting), Some(ours), _) => {
                diagnosis("blocked_loop_is_needed")?.call1((waiting, ours, wait.number))?.extract()
            }
            (None, _, Some(task)) => diagnosis("own_executor_is_needed")?.call1((task,))?.extract(),
            _ => Ok(None),
        }
    }
}

/// Logs who blocks the runner's loop.
fn report_stall(py: Python<'_>, runner: &Runner, stalled: Duration, waiters: u64) {
    let report = || -> PyResult<Option<String>> {
        let waiter = names::thread_ident(py)?;
        let report = py.import("syncline._diagnosis")?.getattr("stall_report")?;
        report.call1((runner.thread_id(), waiter, &*runner.name, stalled.as_secs_f64(), waiters))?.extract()
    };
    warn(py, report());
}

/// Logs that this caller blocks the loop that runs in its own thread, if one does.
fn report_own_stall(py: Python<'_>, runner: &Runner, call: &Call, stalled: Duration) {
    let report = || -> PyResult<Option<String>> {
        let report = py.import("syncline._diagnosis")?.getattr("own_stall_report")?;
        report.call1((call.task(py), &*runner.name, stalled.as_secs_f64()))?.extract()
    };
    warn(py, report());
}

fn warn(py: Python<'_>, report: PyResult<Option<String>>) {
    match report {
        Ok(Some(text)) => log::log(py, "warning", &text, None),
        Ok(None) => {}
        Err(error) => signals::keep_unless_exception(py, error),
    }
}
