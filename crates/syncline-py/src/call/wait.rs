//! The one wait: what a timeout, a signal, a closing loop and a late result mean, for whatever is waited for.
//!
//! A thread that waits for a call on a runner's loop, one that drives its own loop, a worker that has called back,
//! one that closes a loop or has one started: all of them wait here. They say how they sleep and how they cancel
//! ([`Awaited`]); when, and what comes of it, is decided here.
//!
//! Invariants:
//! 1. Every wait ends: when the result is there, when the loop is gone, or when what is waited for was told to end
//!    and its time for cleanup is over. It is told to end at the deadline, when a signal handler raises, when its
//!    loop begins to close, and when the code that waits is to end itself, as a part of something else.
//! 2. It is told once. To tell it a second time would break off its cleanup.
//! 3. What a signal handler raises is raised by the wait during which it came, whatever else ends that. A second such
//!    exception ends the wait at once.
//! 4. Meanwhile the thread runs what the coroutine sends it (errands.rs), one at a time: what comes of the wait is
//!    looked at before each.
//! 5. No thread waits while attached, but for one that drives its own loop: it turns the loop instead.

use super::errands::Errands;
use super::outcome::{Outcome, as_cancelled_here, cancelled_here, is_cancelled, is_ordinary, whatever_became};
use super::state::TIMER_SLACK;
use crate::python::errors;
use crate::python::given::Given;
use crate::python::process;
use crate::python::signals;
use pyo3::exceptions::{PySystemExit, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::time::{Duration, Instant};

/// How long a caller waits, and what it does then.
#[derive(Clone, Copy)]
pub struct Patience {
    pub begun: Instant,
    pub timeout: Option<Duration>,
    /// How long what was cancelled may clean up before its caller goes on without it.
    pub cleanup: Duration,
    pub stall_after: Option<Duration>,
}

impl Patience {
    /// For a wait without a timeout, whose [`Awaited`] knows by itself when to give up. Only a second exception of a
    /// signal handler ends it early.
    pub fn endless() -> Self {
        Self { begun: Instant::now(), timeout: None, cleanup: FOR_EVER, stall_after: None }
    }
}

/// Some thirty years. A longer time counts as for ever, so that adding it to the clock's can't overflow.
pub const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// What was given as a number of seconds.
pub type Seconds<'py> = Given<'py, f64>;

/// What such an option may be: one that has no limit if it is `None`, and one that always has a number.
const OR_NONE: &str = "a number of seconds or None";
const OR_INFINITE: &str = "a number of seconds, or math.inf for no limit";

impl Seconds<'_> {
    fn number(&self, name: &str, what: &str) -> PyResult<f64> {
        let given = match self {
            Self::Default(number) => return Ok(*number),
            Self::Given(given) => given,
        };
        let number = if given.is_instance_of::<PyBool>() { None } else { given.extract().ok() };
        number.ok_or_else(|| {
            let given = signals::repr_of(given);
            PyTypeError::new_err(format!("{name} must be {what}, not {given}"))
        })
    }
}

/// The same for what may be `None`.
pub fn number(name: &str, given: Option<&Seconds<'_>>) -> PyResult<Option<f64>> {
    given.map(|given| given.number(name, OR_NONE)).transpose()
}

/// A number of seconds that a user gave. `None` is for ever.
pub fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    value.map_or(Ok(None), |value| span(name, value, OR_NONE))
}

/// The same for what is always a number.
pub fn limit(name: &str, given: &Seconds<'_>) -> PyResult<Duration> {
    let value = given.number(name, OR_INFINITE)?;
    Ok(span(name, value, OR_INFINITE)?.unwrap_or(FOR_EVER))
}

fn span(name: &str, value: f64, what: &str) -> PyResult<Option<Duration>> {
    if value.is_nan() {
        return Err(PyValueError::new_err(format!("{name} must be {what}, not nan")));
    }
    let span = Duration::try_from_secs_f64(value.max(0.0)).ok();
    Ok(span.filter(|span| *span < FOR_EVER))
}

/// Why the wait is to end before the result is there.
enum Reason {
    Timeout,
    Signal(PyErr),
    /// What the waiting code is a part of is to end: the call that this one is nested in, or the await that sent the
    /// job to this worker thread.
    Outer,
    /// The loop is being closed, or was stopped.
    Closing,
}

struct Ending {
    reason: Reason,
    give_up_at: Option<Instant>,
}

/// What the wait is to do next.
#[must_use]
enum Verdict {
    Sleep,
    /// Tell what is waited for that it is to end.
    Cancel,
    /// Go on without it.
    GiveUp,
}

pub struct Wait {
    pub begun: Instant,
    timeout: Option<Duration>,
    cleanup: Duration,
    ending: Option<Ending>,
    /// What is waited for was told to end before.
    was_told: bool,
}

/// Whether what is waited for can still come to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Runs,
    /// Its loop is being closed, and tells all that runs there to end.
    Closing,
    /// Its loop was stopped in the middle of it. Nobody else tells it to end, so the wait has to.
    Stopped,
    Gone,
}

/// What a thread waits for.
pub trait Awaited {
    type Output;

    /// Whether the waiting thread drives the loop itself. Then it sleeps by letting the loop run, and goes on with
    /// that when the interpreter exits.
    const DRIVES: bool = false;

    fn take(&mut self, py: Python<'_>) -> Option<Outcome<Self::Output>>;

    fn fate(&mut self, py: Python<'_>) -> Fate;

    /// Sleeps, until there is something to look at; at the latest at `due`. Raises what a signal handler raised.
    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()>;

    /// Tells what is waited for to end.
    fn cancel(&mut self, py: Python<'_>);

    /// Whether what the waiting code is a part of is to end. Says yes only once; from then on the wait sees to it.
    fn outer_is_to_end(&mut self, py: Python<'_>, now: Instant) -> bool {
        let _ = (py, now);
        false
    }

    /// Called now and then while nothing else happens. Raises if the wait can never end.
    fn look_after(&mut self, py: Python<'_>, now: Instant) -> PyResult<()> {
        let _ = (py, now);
        Ok(())
    }

    /// When `look_after` has something to do next.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// What the coroutine that is waited for has sent for this thread to run.
    fn errands(&self) -> Option<&Errands> {
        None
    }

    /// Runs an errand. A thread that drives the loop makes way for that: no loop runs in it meanwhile.
    fn on_errand<T>(&mut self, run: impl FnOnce(&Self) -> T) -> T {
        run(self)
    }

    /// Nobody waits any more. `waited_for_cleanup` is given if what was waited for had that time to clean up, and has
    /// not ended.
    fn abandon(&mut self, py: Python<'_>, waited_for_cleanup: Option<Duration>);

    /// The error that says that the loop has ended.
    fn closed(&self, py: Python<'_>) -> PyErr;

    /// Whether the loop of what has ended is being closed: then a cancellation came from that.
    fn is_closing(&self, py: Python<'_>) -> bool;

    /// Whether it had ended by itself before it could learn that it was to.
    fn was_cancelled_in_vain(&self) -> bool {
        false
    }

    /// Whether a nested call that blocked the loop has told the coroutine that the deadline has passed.
    fn was_told_by_nested(&self) -> bool {
        false
    }
}

impl Wait {
    pub fn begin(patience: Patience) -> Self {
        let Patience { begun, timeout, cleanup, .. } = patience;
        Self { begun, timeout, cleanup, ending: None, was_told: false }
    }

    /// For the end of what was told to end, which by 2 this wait doesn't tell again.
    pub fn begin_for_end(patience: Patience) -> Self {
        Self { was_told: true, ..Self::begin(patience) }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| self.begun.checked_add(timeout))
    }

    /// When the wait has something to do though nothing happens: at the deadline, or at the end of the cleanup's time.
    fn due(&self) -> Option<Instant> {
        self.ending.as_ref().map_or_else(|| self.deadline(), |ending| ending.give_up_at)
    }

    fn reason(&self) -> Option<&Reason> {
        self.ending.as_ref().map(|ending| &ending.reason)
    }

    /// Notes an exception of a signal handler's that came when the result was there already.
    pub fn note_signal(&mut self, py: Python<'_>, error: PyErr) {
        let _ = self.on_signal(py, error);
    }

    /// Raises what a signal handler raised during this wait. For code that waits for several things, one by one.
    pub fn raise_signal(&self, py: Python<'_>) -> PyResult<()> {
        match self.reason() {
            Some(Reason::Signal(error)) => Err(error.clone_ref(py)),
            _ => Ok(()),
        }
    }

    /// By 2 only the first reason cancels what is waited for.
    fn end(&mut self, reason: Reason) -> Verdict {
        if self.ending.is_some() {
            return Verdict::Sleep;
        }
        let give_up_at = Instant::now().checked_add(self.cleanup);
        self.ending = Some(Ending { reason, give_up_at });
        if self.was_told { Verdict::Sleep } else { Verdict::Cancel }
    }

    fn on_tick(&mut self, now: Instant) -> Verdict {
        match &self.ending {
            Some(ending) if ending.give_up_at.is_some_and(|at| at <= now) => Verdict::GiveUp,
            None if self.deadline().is_some_and(|at| at <= now) => self.end(Reason::Timeout),
            _ => Verdict::Sleep,
        }
    }

    /// By 3, whatever the reason was. Of two exceptions the later one is raised. One that was raised in a task, on a loop
    /// that this thread drives, comes again out of each task that awaits that one.
    fn on_signal(&mut self, py: Python<'_>, error: PyErr) -> Verdict {
        match &mut self.ending {
            None => self.end(Reason::Signal(error)),
            Some(Ending { reason: Reason::Signal(known), .. }) if known.value(py).is(error.value(py)) => Verdict::Sleep,
            Some(Ending { reason: Reason::Signal(known), .. }) => {
                *known = error;
                Verdict::GiveUp
            }
            Some(ending) => {
                ending.reason = Reason::Signal(error);
                Verdict::Sleep
            }
        }
    }

    /// A loop that is being closed cancels what runs there itself. One that was only stopped does not.
    fn on_closing(&mut self, was_only_stopped: bool) -> Verdict {
        match self.end(Reason::Closing) {
            Verdict::Cancel if !was_only_stopped => Verdict::Sleep,
            verdict => verdict,
        }
    }

    /// What the outcome means to the caller.
    fn decide<A: Awaited>(&self, py: Python<'_>, outcome: Outcome<A::Output>, awaited: &A) -> PyResult<A::Output> {
        // For an error loops may be asked, as in `given_up`: that may be Python code, for which the exit has to wait.
        let _inside = matches!(outcome, Outcome::Raised(_)).then(process::step_inside);
        match (self.reason(), outcome) {
            (Some(Reason::Signal(signal)), outcome) => {
                Err(whatever_became(py, signal.clone_ref(py), outcome.as_result()))
            }
            (Some(Reason::Timeout), Outcome::Raised(error)) if is_cancelled(py, &error) => {
                Err(errors::from_cause(py, timed_out(self.timeout), error))
            }
            (None, Outcome::Raised(error))
                if self.deadline().is_some_and(|at| at <= Instant::now() + TIMER_SLACK)
                    && is_cancelled(py, &error)
                    && awaited.was_told_by_nested() =>
            {
                Err(errors::from_cause(py, timed_out(self.timeout), error))
            }
            (reason @ (Some(Reason::Closing | Reason::Outer) | None), Outcome::Raised(error))
                if is_cancelled(py, &error) && (matches!(reason, Some(Reason::Closing)) || awaited.is_closing(py)) =>
            {
                Err(errors::from_cause(py, self.ended_with_loop(py, awaited), error))
            }
            (Some(Reason::Outer), Outcome::Raised(error)) if is_cancelled(py, &error) => {
                Err(as_cancelled_here(py, error))
            }
            // As where a task is cancelled whose future is done already. The result is lost; the cancellation would be.
            (Some(Reason::Outer), outcome)
                if awaited.was_cancelled_in_vain() && is_ordinary(py, outcome.as_result()) =>
            {
                Err(whatever_became(py, cancelled_here(py), outcome.as_result()))
            }
            // It lay in the mailbox of a loop that ended by then.
            (_, Outcome::Raised(error)) if process::has_refused(py, &error) => Err(exit_or(py, || error)),
            // As `asyncio.wait_for`: what the coroutine did in spite of being cancelled is not lost.
            (_, outcome) => outcome.arrive(py),
        }
    }

    /// The error with which the caller goes on without a result.
    fn given_up<A: Awaited>(&self, py: Python<'_>, awaited: &A) -> PyErr {
        let _inside = process::step_inside();
        match self.reason() {
            Some(Reason::Signal(error)) => error.clone_ref(py),
            Some(Reason::Timeout) => timed_out(self.timeout),
            Some(Reason::Outer) => cancelled_here(py),
            Some(Reason::Closing) | None => self.ended_with_loop(py, awaited),
        }
    }

    fn ended_with_loop<A: Awaited>(&self, py: Python<'_>, awaited: &A) -> PyErr {
        exit_or(py, || awaited.closed(py))
    }

    /// As `decide`, after the errands that came before the end. A wait that had to end for another reason runs none.
    pub fn end_with<A: Awaited>(
        &mut self,
        py: Python<'_>,
        outcome: Outcome<A::Output>,
        awaited: &mut A,
    ) -> PyResult<A::Output> {
        if awaited.errands().is_some() {
            let runs_them = self.ending.is_none();
            let ran = awaited.on_errand(|this| {
                let errands = this.errands()?;
                let ran = if runs_them { errands.run_last(py) } else { Ok(()) };
                errands.close(py);
                ran.err()
            });
            if let Some(error) = ran {
                self.note_signal(py, error);
            }
        }
        self.decide(py, outcome, awaited)
    }

    /// Waits for the outcome, and decides what it means.
    pub fn wait_for<A: Awaited>(&mut self, py: Python<'_>, awaited: &mut A) -> PyResult<A::Output> {
        let mut raised = None;
        loop {
            if let Some(outcome) = awaited.take(py) {
                if let Some(error) = raised {
                    let _ = self.on_signal(py, error);
                }
                return self.end_with(py, outcome, awaited);
            }
            let fate = {
                // It may run Python code, as what follows: see there.
                let _inside = process::step_inside();
                awaited.fate(py)
            };
            if fate == Fate::Gone {
                if let Some(error) = raised {
                    let _ = self.on_signal(py, error);
                }
                return self.leave(py, awaited, None);
            }
            // What follows may run Python code, and the exit waits for threads that do (`process::Inside`). Once the
            // exit has begun, a daemon thread may run none any more: it sleeps until its result is there or its loop
            // is gone.
            let inside = if A::DRIVES { Ok(process::step_inside()) } else { process::enter(py) };
            let Ok(inside) = inside else {
                let _ = awaited.sleep(py, None);
                continue;
            };
            let now = Instant::now();
            match self.look(py, awaited, fate, raised.take(), now) {
                Verdict::Cancel => awaited.cancel(py),
                Verdict::GiveUp => {
                    let had_its_time = self.due().is_some_and(|at| at <= now);
                    return self.leave(py, awaited, had_its_time.then_some(self.cleanup));
                }
                Verdict::Sleep => {
                    if let Err(deadlock) = awaited.look_after(py, now) {
                        let error = self.in_deadlock(py, awaited, deadlock);
                        awaited.abandon(py, None);
                        return Err(error);
                    }
                    if let Some(ran) = awaited.on_errand(|this| this.errands()?.run_next(py)) {
                        raised = ran.err();
                        continue;
                    }
                    drop(inside);
                    if !signals::are_kept() {
                        let due = [self.due(), awaited.next_look(now)].into_iter().flatten().min();
                        raised = awaited.sleep(py, due).err();
                    }
                }
            }
        }
    }

    /// The error for a wait that can never end, by what `look_after` has raised. If the wait was to end already, it
    /// ends for that reason, without the cleanup that it waited for.
    fn in_deadlock<A: Awaited>(&self, py: Python<'_>, awaited: &mut A, deadlock: PyErr) -> PyErr {
        if self.ending.is_some() {
            return errors::from_cause(py, self.given_up(py, awaited), deadlock);
        }
        awaited.cancel(py);
        deadlock
    }

    fn look<A: Awaited>(
        &mut self,
        py: Python<'_>,
        awaited: &mut A,
        fate: Fate,
        raised: Option<PyErr>,
        now: Instant,
    ) -> Verdict {
        let verdict = if let Some(error) = raised.or_else(|| signals::check_all(py).err()) {
            self.on_signal(py, error)
        } else if self.ending.is_none() && awaited.outer_is_to_end(py, now) {
            self.end(Reason::Outer)
        } else {
            match fate {
                Fate::Closing => self.on_closing(false),
                Fate::Stopped => self.on_closing(true),
                Fate::Runs | Fate::Gone => Verdict::Sleep,
            }
        };
        if let Verdict::Sleep = verdict { self.on_tick(now) } else { verdict }
    }

    fn leave<A: Awaited>(
        &mut self,
        py: Python<'_>,
        awaited: &mut A,
        waited_for_cleanup: Option<Duration>,
    ) -> PyResult<A::Output> {
        // The result may have come since the last look.
        if let Some(outcome) = awaited.take(py) {
            return self.end_with(py, outcome, awaited);
        }
        awaited.abandon(py, waited_for_cleanup);
        Err(self.given_up(py, awaited))
    }
}

/// What ends a daemon thread once the exit has begun; in other threads the error.
fn exit_or(py: Python<'_>, error: impl FnOnce() -> PyErr) -> PyErr {
    match process::end_daemon_thread(py) {
        Err(exit) if exit.is_instance_of::<PySystemExit>(py) => exit,
        _ => error(),
    }
}

pub fn timed_out(timeout: Option<Duration>) -> PyErr {
    let seconds = timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
    PyTimeoutError::new_err(format!("the call did not end within {seconds} s; its coroutine was cancelled"))
}
