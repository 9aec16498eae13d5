//! The caller's side of a hop: it hands its call over, waits, and is never left waiting.
//!
//! Invariants:
//! 1. No wait is made while attached, and each ends on the first of: settled, the runner ended, deadline, a signal's
//!    exception, a circle, the cleanup time after the loop began to close. 2. A caller that stops waiting has asked for
//!    the end of its call before, or its loop is ending.

use crate::call::{Call, Outcome, is_cancelled};
use crate::errors;
use crate::names;
use crate::once::intern;
use crate::process::{self, LongWait};
use crate::runner::{Feeder, Job, Runner};
use crate::signals;
use crate::switch::strand::Masked;
use crate::target::Target;
use crate::tasks::Home;
use crate::workers::{self, Waiting};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use syncline_core::latch::Waited;
use syncline_core::mailbox::{SendError, Sent};
use syncline_core::spin::current_cpu;
use syncline_core::stats::Stats;

/// A waiting thread looks by itself after that time, then twice that, up to `LONGEST_TICK`: for signals that were
/// delivered to another thread, for results that wait for a loop which does not come round, for runners that died.
const FIRST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(100);
/// A nested wait has to notice that the call around it is to end.
const LONGEST_NESTED_TICK: Duration = Duration::from_millis(10);
/// How often a long wait is examined for deadlocks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller waits, and what it does then.
#[derive(Clone, Copy)]
pub struct Patience {
    pub timeout: Option<Duration>,
    /// How long a cancelled coroutine may clean up before its caller goes on without it.
    pub cleanup: Duration,
    pub stall_after: Option<Duration>,
}

/// Why the call is to end, and until when it waits for the end of that.
struct Cancelled {
    reason: Reason,
    give_up_at: Option<Instant>,
}

enum Reason {
    Timeout,
    Signal(PyErr),
    /// The call that this one is nested in is to end, and its loop's thread is the one that waits here.
    Outer,
    /// The loop is being closed, which cancels the call unless something blocks the loop.
    Closing,
}

thread_local! {
    /// The call whose coroutine this thread runs a step of.
    static STEPPING: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
}

/// Runs `step` as a part of `call`.
pub fn stepping<T>(py: Python<'_>, call: &Arc<Call>, step: impl FnOnce() -> T) -> T {
    // The only calls that may run on loops which are not ours.
    let _inside = call.waiting_work.get().map(|_| process::step_inside_unless_left(py));
    let outer = STEPPING.replace(Some(Arc::clone(call)));
    let result = step();
    STEPPING.set(outer);
    result
}

/// The call whose coroutine this thread runs a step of.
pub fn stepped_call() -> Option<Arc<Call>> {
    STEPPING.with_borrow(Clone::clone)
}

/// Hands the target to the runner and waits for its result. Gives target and home back if the runner takes no more calls.
pub fn hop(
    py: Python<'_>,
    runner: &Arc<Runner>,
    target: Target,
    home: Home,
    patience: Patience,
    stats: &Arc<Stats>,
) -> Result<PyResult<Py<PyAny>>, (Target, Home)> {
    let _masked = Masked::new();
    let call = Call::on_runner(runner, Arc::clone(stats), None);
    let _waiting = Waiting::begin(&call);
    let job = Job::Start(Arc::clone(&call), target, home);
    let begun = Instant::now();
    let sent = match runner.feeder() {
        Feeder::Selector => first_sleep(py, runner, &call, patience, || {
            let sent = runner.mailbox.send(job)?;
            if sent == Sent::WakeTheLoop {
                stats.wakes.add(1);
                runner.wake();
            }
            Ok(())
        }),
        Feeder::Callback => runner.post(py, job),
    };
    let result = match sent {
        Ok(()) => Ok(Wait::new(runner, &call, patience, begun).wait_to_the_end(py)),
        Err(SendError(Job::Start(_, target, home))) => Err((target, home)),
        Err(SendError(_)) => unreachable!("the job is the one made above"),
    };
    stats.ended.add(1);
    result
}

/// Waits for a call that will be settled on that runner.
pub fn wait_for(py: Python<'_>, runner: &Arc<Runner>, call: &Arc<Call>, patience: Patience) -> PyResult<Py<PyAny>> {
    let _masked = Masked::new();
    let begun = Instant::now();
    let _ = first_sleep(py, runner, call, patience, || Ok(()));
    Wait::new(runner, call, patience, begun).wait_to_the_end(py)
}

/// Sends, spins, and sleeps for the first time; most calls end in that, and never enter the loop of `Wait`.
fn first_sleep(
    py: Python<'_>,
    runner: &Runner,
    call: &Call,
    patience: Patience,
    send: impl FnOnce() -> Result<(), SendError<Job>> + Send,
) -> Result<(), SendError<Job>> {
    let (sent, detached_until) = py.detach(|| {
        runner.caller_cpu.store(current_cpu(), Relaxed);
        if let Err(refused) = send() {
            return (Err(refused), Instant::now());
        }
        let is_alone = runner.callers.fetch_add(1, Relaxed) == 0;
        runner.caller_spin.attempt(runner.loop_cpu.load(Relaxed), is_alone, || call.slot.is_published());
        if !call.slot.is_published() {
            call.slot.wait(Some(patience.timeout.map_or(FIRST_TICK, |timeout| timeout.min(FIRST_TICK))));
        }
        runner.callers.fetch_sub(1, Relaxed);
        (Ok(()), Instant::now())
    });
    runner.caller_spin.note_attach(detached_until.elapsed());
    sent
}

struct Wait<'a> {
    runner: &'a Arc<Runner>,
    call: &'a Arc<Call>,
    /// The call that this one is nested in.
    outer: Option<Arc<Call>>,
    patience: Patience,
    begun: Instant,
    cancelled: Option<Cancelled>,
    tick: Duration,
    next_check: Instant,
    /// From the first examination, or the first look where stalls are reported.
    examined: Option<LongWait>,
    /// The loop's turns at the last check, and since when they have been that many.
    seen_turns: Option<(u64, Instant)>,
    /// Whether it has been looked at what loop this caller itself may block.
    told_of_own: bool,
    /// In a worker thread: how often tokens of its limiter had changed hands at the last check.
    seen_moves: Option<u64>,
}

impl<'a> Wait<'a> {
    fn new(runner: &'a Arc<Runner>, call: &'a Arc<Call>, patience: Patience, begun: Instant) -> Self {
        Self {
            runner,
            call,
            outer: stepped_call(),
            patience,
            begun,
            cancelled: None,
            tick: FIRST_TICK,
            next_check: begun + CHECK_INTERVAL,
            examined: None,
            seen_turns: None,
            told_of_own: false,
            seen_moves: None,
        }
    }

    fn wait_to_the_end(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            if let Some(outcome) = self.call.take() {
                return self.deliver(py, outcome);
            }
            // In a child that was forked by a signal handler of this very thread, nobody runs the call.
            if self.runner.has_ended() || self.runner.epoch != process::epoch() {
                // It may have settled the call after we looked.
                let late = self.call.take();
                let closed = || {
                    let exiting = process::end_daemon_thread(py).err();
                    Outcome::Raised(exiting.unwrap_or_else(|| errors::closed_meanwhile(py, &self.runner.name)))
                };
                return self.deliver(py, late.unwrap_or_else(closed));
            }
            // Looking after a wait runs Python code, which the exit has to see end.
            let Ok(inside) = process::enter(py) else {
                py.detach(|| self.wait_for_any_end());
                continue;
            };
            if let Some(given_up) = self.look_after(py) {
                self.call.abandon(py);
                return Err(given_up);
            }
            drop(inside);
            let is_main = process::is_main_thread(py);
            if !signals::are_kept() {
                py.detach(|| self.sleep(is_main));
            }
        }
    }

    /// Sleeps until there is something that needs the interpreter.
    fn sleep(&mut self, is_main: bool) {
        let longest = if self.outer.is_some() { LONGEST_NESTED_TICK } else { LONGEST_TICK };
        loop {
            let now = Instant::now();
            let due = self.due(now);
            let span = due.map_or(self.tick, |at| at.saturating_duration_since(now).min(self.tick));
            match self.call.slot.wait(Some(span)) {
                Waited::Open => return,
                Waited::Interrupted if is_main => return,
                Waited::Interrupted => {}
                Waited::TimedOut => self.tick = (self.tick * 2).min(longest),
            }
            let now = Instant::now();
            let now_due = due.is_some_and(|at| at <= now) || self.outer_is_to_end(now) || self.loop_is_to_end();
            if self.call.slot.is_filled() || self.runner.has_ended() || is_main || now_due {
                return;
            }
        }
    }

    /// For a daemon thread at exit: it must not run Python code any more, nor attach without need.
    fn wait_for_any_end(&self) {
        while !self.call.slot.is_filled() && !self.runner.has_ended() {
            let _ = self.call.slot.wait(Some(LONGEST_TICK));
        }
    }

    fn outer_is_to_end(&self, now: Instant) -> bool {
        self.cancelled.is_none() && self.outer.as_ref().is_some_and(|outer| outer.is_to_be_cancelled(now))
    }

    fn loop_is_to_end(&self) -> bool {
        self.cancelled.is_none() && self.runner.is_closing()
    }

    /// The next time at which this wait has something to do.
    fn due(&self, now: Instant) -> Option<Instant> {
        let deadline = match &self.cancelled {
            Some(cancelled) => cancelled.give_up_at,
            None => self.patience.timeout.and_then(|timeout| self.begun.checked_add(timeout)),
        };
        let stall = self.patience.stall_after.map(|span| now + span / 2);
        [deadline, Some(self.next_check), stall].into_iter().flatten().min()
    }

    /// Signals, deadlines, deadlocks. Returns the error with which the caller stops waiting.
    fn look_after(&mut self, py: Python<'_>) -> Option<PyErr> {
        if let Err(error) = signals::check(py) {
            if let Some(Cancelled { reason: Reason::Signal(_), .. }) = self.cancelled {
                return Some(error);
            }
            self.cancel(py, Reason::Signal(error));
        }
        let now = Instant::now();
        match &self.cancelled {
            None => {
                let deadline = self.patience.timeout.and_then(|timeout| self.begun.checked_add(timeout));
                if deadline.is_some_and(|at| at <= now) {
                    self.cancel(py, Reason::Timeout);
                } else if self.outer_is_to_end(now) {
                    if let Some(outer) = &self.outer {
                        outer.take_over_cancelling();
                    }
                    self.cancel(py, Reason::Outer);
                } else if self.loop_is_to_end() {
                    // The loop does the cancelling: a second one would break off the cleanup.
                    self.give_up_after_cleanup(Reason::Closing);
                }
            }
            Some(cancelled) if cancelled.give_up_at.is_some_and(|at| at <= now) => return self.give_up(py),
            Some(_) => {}
        }
        self.check(py, now)
    }

    fn cancel(&mut self, py: Python<'_>, reason: Reason) {
        self.give_up_after_cleanup(reason);
        self.call.begin_cancelling();
        // A runner that takes no more mail is ending, and cancels all its tasks.
        let _ = self.runner.post(py, Job::Cancel(Arc::clone(self.call)));
    }

    fn give_up_after_cleanup(&mut self, reason: Reason) {
        self.cancelled = Some(Cancelled { reason, give_up_at: Instant::now().checked_add(self.patience.cleanup) });
    }

    fn give_up(&mut self, py: Python<'_>) -> Option<PyErr> {
        let seconds = self.patience.cleanup.as_secs_f64();
        orphaned(py, self.call, &self.runner.name, seconds);
        self.cancelled.take().map(|cancelled| self.error_for(py, cancelled.reason))
    }

    fn error_for(&self, py: Python<'_>, reason: Reason) -> PyErr {
        match reason {
            Reason::Timeout => timed_out(self.patience.timeout),
            Reason::Signal(error) => error,
            Reason::Outer => cancelled_error(py),
            Reason::Closing => {
                let exiting = process::end_daemon_thread(py).err();
                exiting.unwrap_or_else(|| errors::closed_meanwhile(py, &self.runner.name))
            }
        }
    }

    fn deliver(&mut self, py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
        match (self.cancelled.take().map(|cancelled| cancelled.reason), outcome) {
            (None | Some(Reason::Outer | Reason::Closing), outcome) => {
                result_of(py, outcome, || self.runner.is_closing(), &self.runner.name)
            }
            (Some(Reason::Timeout), Outcome::Raised(error)) if is_cancelled(py, &error) => {
                Err(errors::from_cause(py, timed_out(self.patience.timeout), error))
            }
            // As `asyncio.wait_for`: what the coroutine did in spite of being cancelled is not lost.
            (Some(Reason::Timeout), outcome) => result_of(py, outcome, || false, &self.runner.name),
            (Some(Reason::Signal(signal)), outcome) => Err(interrupted(py, signal, outcome)),
        }
    }

    /// Is this wait one that can't end, or does something block the loop?
    fn check(&mut self, py: Python<'_>, now: Instant) -> Option<PyErr> {
        let turns = self.runner.turns();
        let since = match self.seen_turns {
            Some((seen, since)) if seen == turns => since,
            _ => now,
        };
        self.seen_turns = Some((turns, since));
        if let Some(span) = self.patience.stall_after {
            // Whoever reports the stall shows the others that wait.
            if self.examined.is_none() {
                self.examined = LongWait::begin(py, self.runner.thread_id()).ok();
            }
            if !self.runner.is_asleep() && now - since >= span && self.runner.is_first_to_report(turns) {
                let waiting = self.call.stats.calls.get() - self.call.stats.ended.get();
                self.runner.report_stall(py, now - since, waiting);
            }
            // Of a call that this one is nested in, the caller reports it.
            if self.outer.is_none() && now - self.begun >= span && !self.told_of_own {
                self.told_of_own = true;
                self.report_own_stall(py, now - self.begun);
            }
        }
        if now < self.next_check {
            return None;
        }
        self.next_check = now + CHECK_INTERVAL;
        if let Some(work) = workers::current() {
            work.look_after_limits(py, &mut self.seen_moves);
        }
        match self.find_deadlock(py, now > since) {
            Ok(None) => None,
            Ok(Some(report)) => {
                let deadlock = errors::deadlock(py, report);
                // A call that is to end anyway can't clean up, and ends as it was to end.
                if let Some(cancelled) = self.cancelled.take() {
                    return Some(errors::from_cause(py, self.error_for(py, cancelled.reason), deadlock));
                }
                self.call.begin_cancelling();
                let _ = self.runner.post(py, Job::Cancel(Arc::clone(self.call)));
                Some(deadlock)
            }
            Err(error) => {
                signals::keep_unless_exception(py, error);
                None
            }
        }
    }
}

impl Wait<'_> {
    fn find_deadlock(&mut self, py: Python<'_>, has_stood_still: bool) -> PyResult<Option<String>> {
        let wait = match self.examined.take() {
            Some(wait) => wait,
            None => LongWait::begin(py, self.runner.thread_id())?,
        };
        let found = process::find_deadlock(py, self.runner, &wait, has_stood_still);
        self.examined = Some(wait);
        found
    }

    /// Logs that this caller blocks the loop that runs in its own thread, if one does.
    fn report_own_stall(&self, py: Python<'_>, stalled: Duration) {
        let report = || -> PyResult<Option<String>> {
            let report = py.import("syncline._diagnosis")?.getattr("own_stall_report")?;
            report.call1((self.call.task(py), &*self.runner.name, stalled.as_secs_f64()))?.extract()
        };
        match report() {
            Ok(Some(text)) => names::log(py, "warning", &text, None),
            Ok(None) => {}
            Err(error) => signals::keep_unless_exception(py, error),
        }
    }
}

/// What a call's outcome means to a caller that did not interfere.
pub fn result_of(py: Python<'_>, outcome: Outcome, is_closing: impl Fn() -> bool, name: &str) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Returned(value) => Ok(value),
        Outcome::Raised(error) if is_cancelled(py, &error) && is_closing() => {
            process::end_daemon_thread(py)?;
            Err(errors::from_cause(py, errors::closed_meanwhile(py, name), error))
        }
        Outcome::Raised(error) => Err(error),
    }
}

/// A signal's exception wins over whatever the coroutine did about being cancelled.
pub fn interrupted(py: Python<'_>, signal: PyErr, outcome: Outcome) -> PyErr {
    if let Outcome::Raised(error) = outcome
        && !is_cancelled(py, &error)
        && !error.value(py).is(signal.value(py))
    {
        let _ = signal.value(py).setattr(intern!(py, "__context__"), error.value(py));
    }
    signal
}

pub fn timed_out(timeout: Option<Duration>) -> PyErr {
    let seconds = timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
    PyTimeoutError::new_err(format!("the call did not end within {seconds} s; its coroutine was cancelled"))
}

/// The repr of a task, which is Python code.
fn shown(task: &Bound<'_, PyAny>) -> String {
    match task.repr() {
        Ok(text) => text.to_string(),
        Err(error) => {
            signals::keep_unless_exception(task.py(), error);
            "a task".to_owned()
        }
    }
}

/// Reports a coroutine that goes on though its caller no longer waits.
pub fn orphaned(py: Python<'_>, call: &Call, runner: &str, seconds: f64) {
    let task = call.task(py).map_or_else(|| "a call".to_owned(), |task| shown(&task));
    let message = format!(
        "{task} on the runner {runner:?} has not ended {seconds} s after it was cancelled; its caller goes on without it"
    );
    names::log(py, "warning", &message, None);
}

pub fn cancelled_error(py: Python<'_>) -> PyErr {
    match names::cancelled_error(py).and_then(|class| class.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
