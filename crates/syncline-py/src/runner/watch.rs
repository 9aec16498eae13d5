//! What a caller looks at when its wait is long: whether the loop turns, and whether the wait can ever end.

use super::lookout::{Away, Seat};
use super::nodes;
use super::state::{Feeder, Runner};
use crate::call::state::Call;
use crate::call::waiter;
use crate::python::errors;
use crate::python::log;
use crate::python::long_waits::LongWait;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings;
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
    /// Not for a nested call: the loop that this one blocks is the outer one's runner's, which is watched.
    stall_after: Option<Duration>,
    next_check: Instant,
    /// There from the first long sleep on.
    known: Option<Known>,
    /// Whether it is enough that the keeper looks.
    is_relieved: bool,
    /// Whether `report_own_stall` was called, which is done once a wait, or is not to be: no loop runs in this thread.
    told_of_own: bool,
    /// Whether it may look for others: not the main thread, which may be busy with a signal's handler, and not who can't be
    /// roused.
    may_keep: bool,
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
            may_keep: true,
            seen_moves: None,
        }
    }

    /// For one who waits for a future: nobody rouses it, so that it looks by itself, and for itself alone.
    pub fn of_future(begun: Instant) -> Self {
        Self { may_keep: false, ..Self::new(begun, None) }
    }

    /// When to look next; `None` if another one looks.
    pub fn next(&self) -> Option<Instant> {
        let keeps = self.known.as_ref().is_some_and(|known| known.seat.keep());
        if self.is_relieved && !keeps {
            return None;
        }
        Some(self.own_report_due().map_or(self.next_check, |due| self.next_check.min(due)))
    }

    /// When to tell of a stall of the loop in this thread, if one runs there.
    fn own_report_due(&self) -> Option<Instant> {
        let span = self.stall_after.filter(|_| !self.told_of_own)?;
        self.begun.checked_add(span)
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

    /// The call is with another runner from now on, whose waiters are others.
    pub fn leave(&mut self) {
        self.known = None;
    }

    /// This thread does something that may take long, until the guard is dropped.
    pub fn away(&self) -> Option<Away<'_>> {
        self.known.as_ref().map(|known| known.seat.away())
    }

    /// Makes the wait known to reports, before the thread sleeps for long.
    pub fn make_known(&mut self, py: Python<'_>, runner: &Arc<Runner>, call: &Arc<Call>, is_nested: bool) {
        // It may run Python code, for which the exit has to wait.
        let _inside = process::step_inside();
        runner.find_thread(py);
        let loop_thread = runner.thread_id();
        // The thread of a loop that somebody else runs may be known only when it has begun to run.
        if self.known.as_ref().is_some_and(|known| known.wait.is_for(loop_thread)) {
            return;
        }
        let subject: Arc<Call> = Arc::clone(call);
        let Ok(wait) = LongWait::begin(py, loop_thread, runner.movable(py), self.begun, subject) else { return };
        match &mut self.known {
            Some(known) => known.wait = wait,
            None => {
                let may_keep = self.may_keep && !process::is_main_thread(py);
                let seat = Seat::take(&runner.lookout, call, wait.waiter, may_keep);
                self.known = Some(Known { wait, seat });
                // Before its first look: where thousands wait, each that wants the interpreter slows down all the others.
                self.relieve(py, runner, is_nested);
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
        let since = runner.lookout.in_turn_since(turns, now).max(self.begun);
        if self.own_report_due().is_some_and(|due| due <= now) {
            self.told_of_own = true;
            report_own_stall(py, runner, call, now - self.begun);
        }
        let is_alarmed = self.known.as_ref().is_some_and(|known| known.seat.hears_alarm());
        if now < self.next_check && !is_alarmed {
            return Ok(());
        }
        self.next_check = now + CHECK_INTERVAL;
        if let Some(job) = waiter::here() {
            job.look_after(py, &mut self.seen_moves);
        }
        match self.find_deadlock(py, runner, call, is_nested, (now > since).then_some(turns)) {
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
        let is_only_worker =
            || PyResult::Ok(!process::is_main_thread(py) && names::is_only_worker(py)?.call0()?.extract()?);
        let looked = || -> PyResult<(bool, bool)> {
            let in_loop = surroundings::in_event_loop(py)?;
            Ok((in_loop, in_loop || is_only_worker()?))
        };
        let (in_loop, is_special) = looked().unwrap_or_else(|error| {
            signals::keep_unless_exception(py, error);
            (true, true)
        });
        self.told_of_own |= !in_loop;
        self.is_relieved = !is_special;
    }

    /// Looks whether the calling thread, which waits for a call on `runner`, can ever be woken. Returns the report if
    /// not. `stands_in_turn` is the loop's turn, if it has been in that one since an earlier look.
    fn find_deadlock(
        &mut self,
        py: Python<'_>,
        runner: &Arc<Runner>,
        call: &Arc<Call>,
        is_nested: bool,
        stands_in_turn: Option<u64>,
    ) -> PyResult<Option<String>> {
        let has_stood_still = stands_in_turn.is_some();
        self.make_known(py, runner, call, is_nested);
        let Some(Known { wait, seat }) = &self.known else { return Ok(None) };
        if runner.feeder() != Feeder::Selector || (has_stood_still && !runner.is_asleep()) {
            let report = wait.is_blocked(py)?;
            if seat.is_keeper() {
                match &report {
                    // Where it lies further on, the others are told the same.
                    Some(_) => runner.lookout.alarm_all(),
                    None => runner.lookout.alarm(&wait.threads_on_the_way(py)?),
                }
            }
            if report.is_some() {
                return Ok(report);
            }
        }
        if has_stood_still && !(runner.feeder() == Feeder::Selector && runner.is_asleep()) {
            let report: Option<String> = names::sleeps_for_good(py)?.call1((runner.thread_id(),))?.extract()?;
            if report.is_some() {
                return Ok(report);
            }
        }
        let Some(turn) = stands_in_turn.filter(|_| runner.is_asleep()) else { return Ok(None) };
        let has_mail = nodes::has_mail_here(py)?;
        match (names::running_loop(py)?, runner.event_loop(py), call.task(py)) {
            (waiting, Some(ours), _) if waiting.is_some() || has_mail => {
                names::blocked_loop_is_needed(py)?.call1((waiting, has_mail, ours, wait.number, turn))?.extract()
            }
            (None, _, Some(task)) => names::own_executor_is_needed(py)?.call1((task,))?.extract(),
            _ => Ok(None),
        }
    }
}

/// Logs that this caller blocks the loop that runs in its own thread, if one does.
fn report_own_stall(py: Python<'_>, runner: &Runner, call: &Call, stalled: Duration) {
    let report = || -> PyResult<Option<String>> {
        names::own_stall_report(py)?.call1((call.task(py), &*runner.name, stalled.as_secs_f64()))?.extract()
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
