//! What a caller looks at when its wait is long: whether the loop turns, and whether the wait can ever end.

use super::state::{Feeder, Runner};
use crate::call::state::Call;
use crate::call::waiter;
use crate::python::errors;
use crate::python::log;
use crate::python::long_waits::LongWait;
use crate::python::names;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a long wait is examined for deadlocks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub struct Watch {
    begun: Instant,
    stall_after: Option<Duration>,
    next_check: Instant,
    /// The loop's turns at the last look, and since when they have been that many.
    seen_turns: Option<(u64, Instant)>,
    /// Makes this wait known to reports. There from the first long sleep on, or, if stalls are reported, from the first
    /// look on.
    examined: Option<LongWait>,
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
            seen_turns: None,
            examined: None,
            told_of_own: false,
            seen_moves: None,
        }
    }

    /// When to look next.
    pub fn next(&self, now: Instant) -> Instant {
        self.stall_after.map_or(self.next_check, |span| self.next_check.min(now + span / 2))
    }

    /// Makes the wait known to reports, before the thread sleeps for long.
    pub fn make_known(&mut self, py: Python<'_>, runner: &Runner, call: &Arc<Call>) {
        let loop_thread = runner.thread_id();
        // The thread of a loop that somebody else runs may be known only when it has begun to run.
        if self.examined.as_ref().is_none_or(|wait| !wait.is_for(loop_thread)) {
            let subject: Arc<Call> = Arc::clone(call);
            self.examined = LongWait::begin(py, loop_thread, self.begun, subject).ok();
        }
    }

    /// Raises DeadlockError if this wait can't end; reports what blocks the loop.
    pub fn look(
        &mut self,
        py: Python<'_>,
        runner: &Runner,
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
        let since = match self.seen_turns {
            Some((seen, since)) if seen == turns => since,
            _ => now,
        };
        self.seen_turns = Some((turns, since));
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
        if now < self.next_check {
            return Ok(());
        }
        self.next_check = now + CHECK_INTERVAL;
        if let Some(job) = waiter::here() {
            job.look_after(py, &mut self.seen_moves);
        }
        match self.find_deadlock(py, runner, call, now > since) {
            Ok(None) => Ok(()),
            Ok(Some(report)) => Err(errors::deadlock(py, report)),
            Err(error) => {
                signals::keep_unless_exception(py, error);
                Ok(())
            }
        }
    }

    /// Looks whether the calling thread, which waits for a call on `runner`, can ever be woken. Returns the report if
    /// not.
    fn find_deadlock(
        &mut self,
        py: Python<'_>,
        runner: &Runner,
        call: &Arc<Call>,
        has_stood_still: bool,
    ) -> PyResult<Option<String>> {
        self.make_known(py, runner, call);
        let Some(wait) = &self.examined else { return Ok(None) };
        if (runner.feeder() != Feeder::Selector || (has_stood_still && !runner.is_asleep()))
            && let Some(report) = wait.is_blocked(py)?
        {
            return Ok(Some(report));
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
