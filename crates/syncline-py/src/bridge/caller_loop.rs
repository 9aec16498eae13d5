//! Scope "caller": a thread's own loop, which that thread drives while it waits.
//!
//! There is no second thread, and nothing to wake, so that a call which never suspends costs no more than a task.
//! Background tasks go on during calls only. Each call turns the loop at least once if anything is ready or scheduled
//! there.
//!
//! Invariants:
//! 1. A loop is touched by its own thread alone, except by `call_soon_threadsafe`. A close from another thread leaves a
//!    `stop` in the loop. Its own thread then ends it: at once if it is driving the loop, else at its next call, or its
//!    end.
//! 2. While the loop is driven, or a first step runs on it, it is the running loop of its thread, and `busy`. A call
//!    made meanwhile (a nested one, one of a signal handler) goes to a runner.

use super::busy::Busy;
use super::standing_in::OutOfTurn;
use crate::call::errands::Errands;
use crate::call::heard::{Heard, UnderWay};
use crate::call::outcome::Outcome;
use crate::call::state::{Call, ClosingLoop, TIMER_SLACK};
use crate::call::stops::Stops;
use crate::call::taker::{DrivenLoop, Taker};
use crate::call::wait::{Awaited, Fate, Patience, Wait};
use crate::call::waiter::Waiting;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::log;
use crate::python::long_waits::LongWait;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::residents;
use crate::python::room;
use crate::python::signals;
use crate::python::threads::thread_key;
use crate::runner::stalls::{self, Watched};
use crate::runner::turns::{self, turn};
use crate::switch::nest::Driving;
use crate::switch::nestable;
use crate::task::loop_cleanup::clean_up;
use crate::task::loops::{self, Stepping, turns_once};
use crate::task::new_loop::{self, Turner};
use crate::task::revival::revive_if_lost;
use crate::task::spare::SpareTask;
use crate::task::start::{RunIn, start_call, start_call_with_step};
use pyo3::prelude::*;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::latch::Latch;
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

/// For how long the loop is turned at most before the wait looks again: some loops take no timer that is much longer.
const LONGEST_TURN: Duration = Duration::from_secs(24 * 60 * 60);

pub struct CallerLoop {
    pub name: Arc<str>,
    pub epoch: u32,
    /// The identifier of its thread.
    pub(super) thread: u64,
    event_loop: Mutex<Option<Py<PyAny>>>,
    out_of_turn: Option<OutOfTurn>,
    stops: Stops,
    pub spare: Arc<SpareTask>,
    busy: Busy,
    closing: Arc<ClosingLoop>,
    pub(super) ended: Latch,
    pub cleanup: Duration,
    is_watched: bool,
    /// How often it has turned because the watcher has asked it to.
    pub(super) turns: Arc<AtomicU64>,
}

impl CallerLoop {
    pub fn new(
        py: Python<'_>,
        name: &str,
        factory: Option<&Bound<'_, PyAny>>,
        cleanup: Duration,
        driving: Driving,
        is_visible: bool,
        stall_after: Option<Duration>,
    ) -> PyResult<Arc<Self>> {
        let stops = Stops::new(py)?;
        let turner = Turner::Caller(stops.clone_ref(py));
        let event_loop = match factory {
            Some(factory) => new_loop::by_factory(factory, turner)?,
            None => new_loop::make(names::caller_loop(py)?, turner)?,
        };
        let event_loop = loops::shown(is_visible, event_loop)?;
        let nests = factory.is_some() && matches!(driving, Driving::Ours { switches: true, .. });
        let event_loop = nestable::nests(nests, event_loop)?;
        turns::watch(&event_loop);
        let out_of_turn = if factory.is_none() { Some(OutOfTurn::of(&event_loop)?) } else { None };
        let own = Arc::new(Self {
            name: name.into(),
            epoch: process::epoch(),
            thread: names::thread_ident(py)?,
            event_loop: Mutex::new(Some(event_loop.unbind())),
            out_of_turn,
            stops,
            spare: SpareTask::new(py)?,
            busy: Busy::new(driving),
            closing: Arc::default(),
            ended: Latch::new(),
            cleanup,
            is_watched: stall_after.is_some(),
            turns: Arc::default(),
        });
        let resident: Weak<Self> = Arc::downgrade(&own);
        residents::remember(resident, py);
        let watched: Weak<dyn Watched> = Arc::<Self>::downgrade(&own);
        stall_after.map_or(Ok(()), |span| stalls::watch(py, watched, span))?;
        Ok(own)
    }

    /// Has `run_forever` return in the thread that drives the loop; for any thread.
    pub fn stop_from_outside(&self, py: Python<'_>) {
        let Some(event_loop) = self.event_loop(py) else { return };
        let _inside = process::step_inside_unless_left(py);
        signals::through(py, || {
            let stop = event_loop.getattr(intern!(py, "stop"))?;
            match event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (stop,)) {
                // Its thread has closed it meanwhile, or somebody else has.
                Err(_) if !self.is_open() || new_loop::was_closed(&event_loop) => Ok(()),
                told => told.map(drop),
            }
        });
    }

    /// Tells the loop's own thread to end it (by 1), without waiting for that; for any thread.
    pub fn begin_closing(&self, py: Python<'_>) {
        if self.closing.begin() {
            self.stop_from_outside(py);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    pub fn takes_calls(&self) -> bool {
        self.is_open() && !self.is_closing()
    }

    /// In the loop's own thread: ends the loop if another thread has asked for that (by 1).
    pub fn close_if_told(&self, py: Python<'_>) {
        let is_free = || names::running_loop(py).is_ok_and(|running| running.is_none());
        if self.is_closing() && !self.is_busy() && is_free() {
            self.close_quietly(py);
        }
    }

    /// Whether it is this event loop.
    pub fn is(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        lock(&self.event_loop).as_ref().is_some_and(|own| own.is(event_loop))
    }

    pub fn is_busy(&self) -> bool {
        self.busy.is_so()
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.event_loop).as_ref().map(|event_loop| event_loop.bind(py).clone())
    }

    pub fn is_open(&self) -> bool {
        lock(&self.event_loop).is_some()
    }

    pub fn run(&self, py: Python<'_>, target: Target, run_in: RunIn, patience: Patience, stats: &Arc<Stats>) -> Heard {
        let _busy = self.busy.begin();
        if self.is_watched {
            stalls::stir(py);
        }
        let event_loop = self.event_loop(py).filter(|_| !self.is_closing());
        let Some(event_loop) = event_loop else {
            target.discard(py);
            return Heard::refused(errors::bridge_closed(py, &self.name));
        };
        let inside = process::enter(py).and_then(|inside| room::check_for_loop(py).map(|()| inside));
        let _inside = match inside {
            Ok(inside) => inside,
            Err(refusal) => {
                target.discard(py);
                return Heard::refused(refusal);
            }
        };
        let wait = Wait::begin(patience);
        let taker = Taker::Driver { driven: Mutex::new(None), deadline: wait.deadline(), thread: thread_key() };
        let call = Call::new(taker, &self.name, &self.closing, stats);
        let _under_way = UnderWay(stats);
        let _waiting = Waiting::begin(py, &call, None);
        let started = self.first_step(py, &event_loop, &call, target, run_in);
        let result = started.and_then(|()| self.run_to_the_end(py, &event_loop, &call, wait));
        Heard { result, has_ended: call.is_settled() }
    }

    /// What is left of a call after its first step.
    fn run_to_the_end(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        call: &Arc<Call>,
        mut wait: Wait,
    ) -> PyResult<Py<PyAny>> {
        let mut awaited =
            CallerCall { own: self, event_loop, call, stopped: false, has_raised: false, is_broken: false };
        if let Some(outcome) = call.take() {
            let turned = self.turn_if_needed(py, event_loop);
            if let Err(error) = turned.and_then(|()| signals::check(py)) {
                wait.note_signal(py, error);
            }
            return wait.end_with(py, outcome, &mut awaited);
        }
        call.stop_when_settled(Some(self.driven(event_loop)));
        let subject: Arc<Call> = Arc::clone(call);
        let known = LongWait::begin_driving(py, self.thread, wait.begun, subject);
        let result = wait.wait_for(py, &mut awaited);
        drop(known);
        // If the call goes on without its caller, its end must not stop the loop for a later call.
        call.stop_when_settled(None);
        result
    }

    fn driven(&self, event_loop: &Bound<'_, PyAny>) -> DrivenLoop {
        DrivenLoop { event_loop: event_loop.clone().unbind(), stops: self.stops.clone_ref(event_loop.py()) }
    }

    fn first_step(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        call: &Arc<Call>,
        target: Target,
        run_in: RunIn,
    ) -> PyResult<()> {
        // One that came before the call shows in the loop's next turn.
        loops::was_stopped(event_loop);
        let can_step = run_in.is_session() || names::has_eager_tasks(py);
        let Some(out_of_turn) = self.out_of_turn.as_ref().filter(|_| can_step) else {
            start_call(event_loop, call, target, run_in, false);
            return Ok(());
        };
        let _standing_in = out_of_turn.stand_in(event_loop)?;
        let _stepping = Stepping::on(event_loop);
        start_call_with_step(event_loop, call, target, run_in, &self.spare);
        Ok(())
    }

    /// Gives background tasks their turn after a call that did not suspend. If it has stopped the loop, that ends with it.
    fn turn_if_needed(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.out_of_turn {
            Some(out_of_turn) if loops::was_stopped(event_loop) || !out_of_turn.is_idle(event_loop)? => {}
            _ => return Ok(()),
        }
        loop {
            event_loop.setattr(intern!(py, "_stopping"), true)?;
            let turned = turn(py, event_loop);
            if turned.is_err() {
                // It may have been raised before the loop began to turn, and must not stop it in the next call.
                event_loop.setattr(intern!(py, "_stopping"), false)?;
            }
            if turned? {
                return Ok(());
            }
        }
    }

    /// Ends the loop; in its own thread. Raises what signal handlers raised meanwhile.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(event_loop) = self.take_loop(py) else { return Ok(()) };
        let event_loop = event_loop.bind(py);
        let _ended = self.ended.open_at_the_end();
        if new_loop::was_closed(event_loop) {
            return Ok(());
        }
        let Ok(_inside) = process::enter(py) else {
            // This is a daemon thread, and the process exits: no cleanup runs any more.
            let _inside = process::step_inside();
            return event_loop.call_method0(intern!(py, "close")).map(drop);
        };
        let mut wait = Wait::begin(Patience::endless());
        let cleaned = clean_up(py, event_loop, self.cleanup, &self.name, &mut wait);
        let closed = signals::unbroken(py, || event_loop.call_method0(intern!(py, "close")).map(drop));
        if let Err(error) = signals::raise_kept() {
            wait.note_signal(py, error);
        }
        let signal = wait.raise_signal(py);
        if signal.is_ok()
            && let Err(error) = cleaned.and(closed)
        {
            if signals::are_handlers(py, &error) {
                return Err(error);
            }
            log::log(py, "error", "the loop could not be closed cleanly", Some(&error));
        }
        signal
    }

    /// The loop can't be run any more, nor closed, nor freed. It is forgotten, and the thread's next call makes another one.
    pub fn leave(&self, py: Python<'_>) {
        std::mem::forget(self.take_loop(py));
        self.ended.open();
    }

    fn take_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let event_loop = lock(&self.event_loop).take()?;
        if self.is_watched {
            stalls::leave(py);
        }
        self.spare.drop_it(py);
        Some(event_loop)
    }

    /// As `close`, where nothing can be raised: a signal handler's exception is passed on to the main thread's next
    /// code.
    pub fn close_quietly(&self, py: Python<'_>) {
        if let Err(error) = self.close(py) {
            signals::keep_and_pass_on(py, error);
        }
    }
}

/// A call that its caller drives to its end.
struct CallerCall<'a, 'py> {
    own: &'a CallerLoop,
    event_loop: &'a Bound<'py, PyAny>,
    call: &'a Arc<Call>,
    /// The loop has returned, and neither the call's end nor a timer of ours was the reason.
    stopped: bool,
    /// It has raised an error, and was turned again for the cleanup.
    has_raised: bool,
    /// It has raised again, and no signal handler's error; or it does not turn at all.
    is_broken: bool,
}

impl<'py> CallerCall<'_, 'py> {
    /// Has the loop stop in that time. Returns the timer.
    fn stop_after(&self, time: Duration) -> PyResult<Bound<'py, PyAny>> {
        let (py, stop) = (self.event_loop.py(), self.own.stops.callback(self.event_loop)?);
        self.event_loop.call_method1(intern!(py, "call_later"), (time.as_secs_f64(), stop))
    }
}

impl Awaited for CallerCall<'_, '_> {
    type Output = Py<PyAny>;

    const DRIVES: bool = true;

    fn take(&mut self, _py: Python<'_>) -> Option<Outcome> {
        self.call.take()
    }

    fn fate(&mut self, py: Python<'_>) -> Fate {
        if self.own.is_closing() {
            // Closing the loop cancels this call with all tasks, and gives them the time that a closing loop has. When
            // the call is settled in the course of that, it must not stop the loop and break off the rest.
            self.call.stop_when_settled(None);
            if let Err(error) = self.own.close(py) {
                let _ = signals::keep(py, error);
            }
            return Fate::Gone;
        }
        if self.is_broken {
            return Fate::Gone;
        }
        if self.stopped { Fate::Stopped } else { Fate::Runs }
    }

    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()> {
        let begun = Instant::now();
        // Nobody notices if the wait looks once in a while before it is due.
        let due = due.map(|at| at.min(begun + LONGEST_TURN));
        let timer = due.map(|at| self.stop_after(at.saturating_duration_since(begun))).transpose()?;
        let mut turned = turn(py, self.event_loop);
        if let Some(timer) = timer {
            signals::through(py, || timer.call_method0(intern!(py, "cancel")));
        }
        let now = Instant::now();
        let is_due = due.is_some_and(|at| at <= now + TIMER_SLACK);
        if is_due && let Some(at) = due {
            // The loop's timer may be early by a little. The wait decides by the clock, so sleep for the rest.
            py.detach(|| std::thread::sleep(at.saturating_duration_since(now)));
        }
        let is_ours = self.own.stops.have_come() || is_due;
        let is_theirs = loops::was_stopped(self.event_loop) || (!is_ours && matches!(turned, Ok(true)));
        if turned.is_ok() && is_theirs && !self.call.slot.is_filled() {
            self.stopped = true;
            let stop = self.own.stops.callback(self.event_loop)?;
            turned = turns_once(self.event_loop, &stop, || turn(py, self.event_loop));
            self.is_broken |= matches!(turned, Ok(false));
        }
        if turned.as_ref().is_err_and(|error| self.has_raised && !signals::are_handlers(py, error)) {
            self.is_broken = true;
            return Ok(());
        }
        self.has_raised |= turned.is_err();
        if turned.is_err() && signals::ask(py, || self.event_loop.call_method0(intern!(py, "is_running"))?.is_truthy())
        {
            self.own.leave(py);
            self.is_broken = true;
        }
        turned.map(drop)
    }

    fn cancel(&mut self, py: Python<'_>) {
        let _ = signals::through(py, || {
            revive_if_lost(self.event_loop, self.call).and_then(|()| self.call.cancel(py)).or_else(|error| {
                if signals::are_handlers(py, &error) {
                    return Err(error);
                }
                let message = "the call could not be cancelled, as what it waits for raised this";
                log::log(py, "error", message, Some(&error));
                Ok(())
            })
        });
    }

    fn errands(&self) -> Option<&Errands> {
        self.call.errands()
    }

    fn on_errand<T>(&mut self, run: impl FnOnce(&Self) -> T) -> T {
        if !self.call.has_errands() {
            return run(self);
        }
        // A call that the errand makes may drive the loop, too. If this call ends meanwhile, it must not stop the loop
        // for that one.
        self.call.stop_when_settled(None);
        let at_rest = self.own.busy.rest();
        let result = run(self);
        drop(at_rest);
        if !self.call.is_settled() {
            self.call.stop_when_settled(Some(self.own.driven(self.event_loop)));
        }
        result
    }

    fn abandon(&mut self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        self.call.leave_alone(py, waited_for_cleanup);
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        errors::closed_meanwhile(py, &self.own.name)
    }

    fn is_closing(&self, _py: Python<'_>) -> bool {
        self.own.is_closing()
    }

    fn was_told_by_nested(&self) -> bool {
        self.call.was_told()
    }
}
