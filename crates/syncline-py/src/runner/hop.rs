//! The caller's side of a hop: it hands its call over to a runner, and waits.

use super::moving;
use super::state::{Job, Runner, current_runner};
use super::watch::Watch;
use crate::call::errands::Errands;
use crate::call::heard::{Heard, UnderWay};
use crate::call::outcome::{Outcome, is_cancelled};
use crate::call::outer::Outer;
use crate::call::state::Call;
use crate::call::stepping::is_stepping;
use crate::call::taker::Taker;
use crate::call::wait::{Awaited, FOR_EVER, Fate, Patience, Wait};
use crate::call::waiter::Waiting;
use crate::call::waiting_tasks;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::{ASGIREF, LOOK_AROUND};
use crate::switch::strand::Masked;
use crate::task::start::RunIn;
use pyo3::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use syncline_core::latch::Waited;
use syncline_core::mailbox::{SendError, Sent};
use syncline_core::spin::current_cpu;
use syncline_core::stats::Stats;

/// A thread in its first sleep wakes up by itself after that time. The main thread does so again after twice that, up
/// to `LONGEST_TICK`: it looks for signals that were delivered to another thread. Others are told of what they have to
/// know (lookout.rs).
const FIRST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(100);
/// How long the second sleep lasts, where nothing but the result is looked for.
const SECOND_TICK: Duration = Duration::from_millis(45);

/// Notes whose code has sent a call: before its thread sleeps for long, or `at_once`, before the call is sent, where the
/// coroutine may ask for the very loop that the thread runs.
pub struct Note<'a> {
    pub note: &'a dyn Fn(Python<'_>, &Call) -> PyResult<()>,
    pub at_once: bool,
}

/// Hands the target to the runner and waits for its result. Gives target and `run_in` back if the runner takes no more
/// calls.
pub fn hop(
    py: Python<'_>,
    runner: &Arc<Runner>,
    target: Target,
    run_in: RunIn,
    patience: Patience,
    stats: &Arc<Stats>,
    note: Note<'_>,
) -> Result<Heard, (Target, RunIn)> {
    let _masked = Masked::new();
    let call = runner.new_call(Taker::sleeper(&runner.outbox), stats);
    let _under_way = UnderWay(stats);
    if LOOK_AROUND.is_due(py) {
        look_at_loop_here(py, runner, &call);
    }
    let _waiting = Waiting::begin(py, &call, Some(&runner.node));
    let mut wait = Wait::begin(patience);
    if note.at_once
        && let Err(error) = (note.note)(py, &call)
    {
        target.discard(py);
        return Ok(Heard::refused(error));
    }
    let job = Job::Start(Arc::clone(&call), target, run_in);
    let sent = if runner.feeder().spins() {
        first_sleep(py, runner, &call, patience, || {
            if runner.send(job)? == Sent::WakeTheLoop {
                stats.wakes.add(1);
            }
            Ok(())
        })
    } else {
        runner.post(py, job).and_then(|()| first_sleep(py, runner, &call, patience, || Ok(())))
    };
    match sent {
        Ok(()) => {
            let result = to_the_end(py, &mut wait, runner, &call, patience, Some(note));
            let returned = call.known_extras().and_then(|extras| extras.take_back::<(Target, RunIn)>());
            match (returned, &result) {
                (Some(returned), Err(error)) if errors::are_of_closing(py, error) => return Err(*returned),
                (Some(returned), _) => returned.0.discard(py),
                (None, _) => {}
            }
            Ok(Heard { result, has_ended: call.is_settled() })
        }
        Err(SendError(Job::Start(_, target, run_in))) => Err((target, run_in)),
        Err(SendError(_)) => unreachable!("the job is the one made above"),
    }
}

/// Whether the thread that waits for a call which lies in the mailbox of a runner that ends sends it to another one: somebody
/// may have stopped the loop just before.
pub fn is_sent_anew(call: &Call, run_in: &RunIn) -> bool {
    let is_at_home = matches!(run_in, RunIn::Session { session, .. } if !session.is_movable());
    matches!(call.taker, Taker::Sleeper { .. }) && !call.is_unwanted() && !is_at_home
}

#[cold]
fn look_at_loop_here(py: Python<'_>, runner: &Runner, call: &Arc<Call>) {
    if names::running_loop(py).is_ok_and(|running| running.is_some()) {
        if ASGIREF.is_there(py) {
            call.note_blocked_loop();
        }
        if runner.is_visible {
            waiting_tasks::note_call(py, call);
        }
    }
}

/// Waits for a call that was sent to that runner already.
pub fn wait_for(py: Python<'_>, runner: &Arc<Runner>, call: &Arc<Call>, patience: Patience) -> PyResult<Py<PyAny>> {
    wait_by(py, runner, call, patience, Wait::begin(patience))
}

/// The same for a call that was told to end.
pub fn wait_for_end(py: Python<'_>, runner: &Arc<Runner>, call: &Arc<Call>, patience: Patience) -> PyResult<Py<PyAny>> {
    wait_by(py, runner, call, patience, Wait::begin_for_end(patience))
}

fn wait_by(
    py: Python<'_>,
    runner: &Arc<Runner>,
    call: &Arc<Call>,
    patience: Patience,
    mut wait: Wait,
) -> PyResult<Py<PyAny>> {
    let _masked = Masked::new();
    let _waiting = Waiting::begin(py, call, Some(&runner.node));
    let _ = first_sleep(py, runner, call, patience, || Ok(()));
    to_the_end(py, &mut wait, runner, call, patience, None)
}

/// The wait after the first sleep. Most calls have ended by then, and this finds the result at its first look.
fn to_the_end(
    py: Python<'_>,
    wait: &mut Wait,
    runner: &Arc<Runner>,
    call: &Arc<Call>,
    patience: Patience,
    note: Option<Note<'_>>,
) -> PyResult<Py<PyAny>> {
    let mut awaited = RunnerCall::new(runner, call, wait.begun, patience.stall_after, note);
    wait.wait_for(py, &mut awaited)
}

/// The error to raise for one that ended something on the runner's loop. If the runner is closing, a cancellation comes
/// from that, and RunnerClosedError says so.
pub fn explained(py: Python<'_>, runner: &Runner, error: PyErr) -> PyErr {
    if is_cancelled(py, &error) && runner.is_closing() {
        return errors::from_cause(py, errors::closed_meanwhile(py, &runner.name), error);
    }
    error
}

/// The same for a thread, which can wait for a moment to see whether whoever runs the loop is about to end it.
pub fn explained_to_thread(py: Python<'_>, runner: &Runner, error: PyErr) -> PyErr {
    if is_cancelled(py, &error) && !runner.is_closing() && runner.is_about_to_be_gone(py) {
        return errors::from_cause(py, runner.gone(py), error);
    }
    explained(py, runner, error)
}

/// Sends, spins for a moment, and sleeps for the first ticks, without attaching in between. Nothing but a result is
/// looked for meanwhile: where many threads wait for a busy loop, each one that attaches takes the interpreter from the
/// loop.
fn first_sleep(
    py: Python<'_>,
    runner: &Runner,
    call: &Call,
    patience: Patience,
    send: impl FnOnce() -> Result<(), SendError<Job>> + Send,
) -> Result<(), SendError<Job>> {
    // The main thread has signals to look for, and a call inside of another one may have to end with that.
    let is_patient = patience.timeout.is_none() && !process::is_main_thread(py) && !is_stepping();
    let (sent, detached_until) = process::sleep(py, || {
        runner.caller_cpu.store(current_cpu(), Relaxed);
        // Waits resemble each other. After a long one this one sleeps through both ticks, and is told at once.
        let expected_long = (is_patient && runner.waits_are_long.load(Relaxed)).then(Instant::now);
        if expected_long.is_some() {
            call.note_long_wait();
        }
        if let Err(refused) = send() {
            return (Err(refused), Instant::now());
        }
        let is_alone = runner.callers.fetch_add(1, Relaxed) == 0;
        runner.caller_spin.attempt(runner.loop_cpu.load(Relaxed), is_alone, || call.slot.is_stirred());
        match expected_long {
            Some(began) => sleep_for_long(runner, call, began),
            None => sleep_in_ticks(runner, call, patience, is_patient),
        }
        runner.callers.fetch_sub(1, Relaxed);
        (Ok(()), Instant::now())
    });
    runner.caller_spin.note_attach(detached_until.elapsed());
    sent
}

/// For a call that is told at once: both ticks in one.
fn sleep_for_long(runner: &Runner, call: &Call, began: Instant) {
    if !call.slot.is_filled() {
        call.slot.wait(Some(FIRST_TICK + SECOND_TICK));
    }
    if began.elapsed() < FIRST_TICK {
        runner.waits_are_long.store(false, Relaxed);
    }
}

fn sleep_in_ticks(runner: &Runner, call: &Call, patience: Patience, is_patient: bool) {
    if !call.slot.is_stirred() {
        call.slot.wait(Some(patience.timeout.map_or(FIRST_TICK, |timeout| timeout.min(FIRST_TICK))));
    }
    if !is_patient || call.slot.is_stirred() {
        return;
    }
    call.note_long_wait();
    runner.waits_are_long.store(true, Relaxed);
    if !call.slot.is_filled() {
        call.slot.wait(Some(SECOND_TICK));
    }
}

struct RunnerCall<'a> {
    /// Where the call is.
    runner: Cow<'a, Arc<Runner>>,
    call: &'a Arc<Call>,
    /// The call that this one is nested in.
    outer: Option<Outer>,
    /// As long as the wait has been, within limits.
    tick: Option<Duration>,
    begun: Instant,
    /// Until it is noted.
    note: Option<Note<'a>>,
    /// Whether the runner was closing when this was looked at last.
    was_closing: bool,
    watch: Watch,
}

impl<'a> RunnerCall<'a> {
    fn new(
        runner: &'a Arc<Runner>,
        call: &'a Arc<Call>,
        begun: Instant,
        stall_after: Option<Duration>,
        note: Option<Note<'a>>,
    ) -> Self {
        let outer = Outer::here();
        let stall_after = stall_after.filter(|_| outer.is_none());
        let watch = Watch::new(begun, stall_after);
        let runner = Cow::Borrowed(runner);
        Self { runner, call, outer, tick: None, begun, note, was_closing: false, watch }
    }

    /// Notes whose code has sent the call, and has it run elsewhere if the runner's thread waits for that; the same for calls that
    /// wait for the loop of this thread. Says whether there was any such call.
    fn move_on(&mut self, py: Python<'_>) -> bool {
        let mut moved = || -> PyResult<usize> {
            let here = current_runner().map_or(Ok(0), |here| here.move_calls(py))?;
            let Some(note) = self.note.take() else { return Ok(here) };
            (note.note)(py, self.call)?;
            Ok(here + self.runner.move_calls(py)?)
        };
        let moved = moved().unwrap_or_else(|error| {
            signals::keep_unless_exception(py, error);
            0
        });
        if let Some(to) = moving::moved_to(self.call).filter(|to| !Arc::ptr_eq(to, &self.runner)) {
            self.was_closing = to.is_closing();
            self.runner = Cow::Owned(to);
            self.watch.leave();
        }
        moved > 0
    }
}

impl Awaited for RunnerCall<'_> {
    type Output = Py<PyAny>;

    fn take(&mut self, _py: Python<'_>) -> Option<Outcome> {
        self.call.take()
    }

    fn fate(&mut self, py: Python<'_>) -> Fate {
        // A signal handler of this very thread may have forked during the wait: in the child nobody runs the call.
        if self.runner.is_gone(py) {
            self.watch.tell_others(&self.runner);
            return Fate::Gone;
        }
        self.was_closing = self.runner.is_closing();
        if self.was_closing { Fate::Closing } else { Fate::Runs }
    }

    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()> {
        let is_main = process::is_main_thread(py);
        self.call.note_long_wait();
        self.move_on(py);
        let was_closing = self.was_closing;
        let was_known = self.watch.is_known();
        self.watch.make_known(py, &self.runner, self.call, self.outer.is_some());
        let is_news = self.outer.as_mut().is_some_and(|outer| outer.listen(self.call));
        // From here on this thread is roused if one of these changes, or if the outer call is to end. Once it is known,
        // another one may look for it, and `due` may be for ever.
        if is_news
            || self.watch.is_known() != was_known
            || self.call.slot.is_filled()
            || self.runner.has_ended()
            || self.runner.is_closing() != was_closing
        {
            return Ok(());
        }
        let longest = if is_main || !self.watch.is_known() { LONGEST_TICK } else { FOR_EVER };
        let begun = self.begun;
        let mut tick = if longest == FOR_EVER {
            FOR_EVER
        } else {
            self.tick.unwrap_or_else(|| begun.elapsed().clamp(FIRST_TICK, longest))
        };
        process::sleep(py, || {
            loop {
                let left = due.map_or(tick, |at| at.saturating_duration_since(Instant::now()).min(tick));
                match self.call.slot.wait(Some(left)) {
                    Waited::Open | Waited::Roused => return,
                    Waited::Interrupted if is_main => return,
                    Waited::Interrupted => {}
                    Waited::TimedOut => tick = (tick * 2).min(longest),
                }
                let now = Instant::now();
                let is_due = due.is_some_and(|at| at <= now) || self.runner.is_closing() != was_closing;
                if self.call.slot.is_filled() || self.runner.has_ended() || is_main || is_due {
                    return;
                }
            }
        });
        self.tick = Some(tick);
        Ok(())
    }

    fn cancel(&mut self, py: Python<'_>) {
        self.runner.ask_to_cancel(py, self.call);
    }

    fn outer_is_to_end(&mut self, py: Python<'_>, now: Instant) -> bool {
        self.outer.as_ref().is_some_and(|outer| outer.is_to_end(py, now))
    }

    fn look_after(&mut self, py: Python<'_>, now: Instant) -> PyResult<()> {
        if self.move_on(py) {
            // What others know of these calls is about to change.
            return Ok(());
        }
        self.watch.look(py, &self.runner, self.call, self.outer.is_some(), now)
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let ends = self.outer.as_ref().and_then(|outer| outer.due(now));
        self.watch.next().into_iter().chain(ends).min()
    }

    fn errands(&self) -> Option<&Errands> {
        self.call.errands()
    }

    fn on_errand<T>(&mut self, run: impl FnOnce(&Self) -> T) -> T {
        let _away = self.call.has_errands().then(|| self.watch.away());
        run(self)
    }

    fn abandon(&mut self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        self.call.leave_alone(py, waited_for_cleanup);
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        self.runner.gone(py)
    }

    fn was_cancelled_in_vain(&self) -> bool {
        self.runner.was_asked_in_vain(self.call)
    }

    fn is_closing(&self, py: Python<'_>) -> bool {
        self.runner.is_closing() || (!self.call.was_cancelled() && self.runner.is_about_to_be_gone(py))
    }
}
