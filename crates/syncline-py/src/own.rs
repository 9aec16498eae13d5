//! Scope "caller": a thread's own loop, which that thread drives while it waits.
//!
//! There is no second thread, and nothing to wake: a call that never suspends costs one task. Background tasks move
//! only during calls: each call turns the loop at least once if something is ready or scheduled.
//!
//! Invariants:
//! 1. Only its own thread touches a loop, but for `call_soon_threadsafe`: a close from another thread leaves a `stop`
//!    in it, and its own thread, which drives it or comes by later, ends it.
//! 2. While it is driven, or a first step runs, it is the running loop of its thread, and `busy`: a call made meanwhile
//!    (a nested one, a signal handler's) goes to a runner.

use crate::call::{self, Call, Outcome, TIMER_SLACK};
use crate::closing::CLOSING_SLACK;
use crate::errors;
use crate::loops::{self, Stepping};
use crate::names;
use crate::once::intern;
use crate::process;
use crate::shutdown;
use crate::switch::nest::{self, Driving};
use crate::switch::nestable;
use crate::target::Target;
use crate::tasks::{self, Home};
use crate::wait::{self, Patience};
use crate::workers::Waiting;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use syncline_core::latch::Latch;
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

pub struct OwnLoop {
    pub name: Arc<str>,
    pub epoch: u32,
    event_loop: Mutex<Option<Py<PyAny>>>,
    /// The loop's hooks for async generators, if it is our class, which can take a first step outside of its turns.
    hooks: Option<Py<PyTuple>>,
    busy: AtomicBool,
    closing: Arc<AtomicBool>,
    ended: Latch,
    pub cleanup: Duration,
    driving: Driving,
}

/// By 2.
struct Busy<'a>(&'a AtomicBool, Driving);

impl<'a> Busy<'a> {
    fn new(own: &'a OwnLoop) -> Self {
        // A close that does not see that is seen after this.
        own.busy.store(true, SeqCst);
        Self(&own.busy, nest::drive(own.driving))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // Before the bridge's `closed` is read: either that thread sees the close, or the close that it is not busy.
        self.0.store(false, SeqCst);
        nest::drive(self.1);
    }
}

/// However the closing went, nobody waits for it any more.
struct Ended<'a>(&'a Latch);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl OwnLoop {
    pub fn new(
        py: Python<'_>,
        name: &str,
        factory: Option<&Bound<'_, PyAny>>,
        cleanup: Duration,
        driving: Driving,
    ) -> PyResult<Arc<Self>> {
        let event_loop = loops::make(match factory {
            Some(factory) => factory,
            None => names::caller_loop(py)?,
        })?;
        let nests = factory.is_some() && matches!(driving, Driving::Ours { switches: true, .. });
        let event_loop = nestable::nests(nests, event_loop)?;
        let hooks = match factory {
            Some(_) => None,
            None => Some(event_loop.getattr(intern!(py, "hooks"))?.cast_into::<PyTuple>()?.unbind()),
        };
        let own = Arc::new(Self {
            name: name.into(),
            epoch: process::epoch(),
            event_loop: Mutex::new(Some(event_loop.unbind())),
            hooks,
            busy: AtomicBool::new(false),
            closing: Arc::default(),
            ended: Latch::new(),
            cleanup,
            driving,
        });
        process::remember_own(&own);
        Ok(own)
    }

    /// `id(loop)`.
    pub fn address(&self) -> Option<usize> {
        lock(&self.event_loop).as_ref().map(|event_loop| event_loop.as_ptr() as usize)
    }

    /// Asks the thread that drives the loop to leave it; for any thread.
    pub fn stop_from_outside(&self, py: Python<'_>) {
        let event_loop = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py));
        let stopped = event_loop.map_or(Ok(()), |event_loop| {
            let stop = event_loop.getattr(py, intern!(py, "stop"))?;
            event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (stop,)).map(drop)
        });
        // Its thread may have closed it meanwhile.
        if let Err(error) = stopped
            && self.is_open()
        {
            error.write_unraisable(py, None);
        }
    }

    /// Tells the thread that drives the loop to end it, without waiting for that; for any thread, by 1.
    pub fn begin_closing(&self, py: Python<'_>) {
        if !self.closing.swap(true, SeqCst) {
            self.stop_from_outside(py);
        }
    }

    /// Waits until the thread that drove the loop has closed it.
    pub fn finish_closing(&self, py: Python<'_>, begun: Instant) {
        let left = (self.cleanup * 2 + CLOSING_SLACK).saturating_sub(begun.elapsed());
        if !py.detach(|| self.ended.wait_through(Some(left))) {
            let message = format!(
                "a thread's own loop of the bridge {:?} does not end: something blocks it; it is left behind",
                self.name
            );
            names::log(py, "warning", &message, None);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    pub fn takes_calls(&self) -> bool {
        self.is_open() && !self.is_closing()
    }

    /// In its own thread: closes a loop that another thread was told to end, and could not (by 1).
    pub fn close_if_told(&self, py: Python<'_>) {
        let is_free = || names::running_loop(py).is_ok_and(|running| running.is_none());
        if self.is_closing() && !self.is_busy() && is_free() {
            self.close(py);
        }
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(SeqCst)
    }

    pub fn is_open(&self) -> bool {
        lock(&self.event_loop).is_some()
    }

    pub fn run(
        &self,
        py: Python<'_>,
        target: Target,
        home: Home,
        patience: Patience,
        stats: &Arc<Stats>,
    ) -> PyResult<Py<PyAny>> {
        let _busy = Busy::new(self);
        let event_loop = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py));
        let Some(event_loop) = event_loop.filter(|_| !self.is_closing()) else {
            target.discard(py);
            return Err(errors::bridge_closed(py, &self.name));
        };
        let event_loop = event_loop.bind(py);
        let _inside = match process::enter(py) {
            Ok(inside) => inside,
            Err(exiting) => {
                target.discard(py);
                return Err(exiting);
            }
        };
        let begun = Instant::now();
        let deadline = patience.timeout.and_then(|timeout| begun.checked_add(timeout));
        let call = Call::on_own_loop(&self.name, Arc::clone(&self.closing), deadline, Arc::clone(stats));
        let _waiting = Waiting::begin(&call);
        let drive = Drive { own: self, event_loop, call: &call, patience, begun };
        self.first_step(py, event_loop, &call, target, home)?;
        let result = match call.take() {
            Some(outcome) => {
                self.turn_if_needed(py, event_loop)?;
                drive.deliver(py, None, outcome)
            }
            None => drive.to_the_end(py),
        };
        stats.ended.add(1);
        result
    }

    fn first_step(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        call: &Arc<Call>,
        target: Target,
        home: Home,
    ) -> PyResult<()> {
        let can_step = home.is_session() || names::has_eager_tasks(py);
        let Some(hooks) = self.hooks.as_ref().filter(|_| can_step) else {
            return tasks::start(event_loop, call, target, home, false);
        };
        // What `run_forever` does around its turns: the loop is the running one, and the one that finalizes the async
        // generators which are begun meanwhile.
        let outer_hooks = names::get_asyncgen_hooks(py)?.call0()?.cast_into::<PyTuple>()?;
        names::set_asyncgen_hooks(py)?.call1(hooks.bind(py))?;
        names::set_running_loop(py)?.call1((event_loop,))?;
        let started = {
            let _stepping = Stepping::on(event_loop);
            tasks::start(event_loop, call, target, home, true)
        };
        names::set_running_loop(py)?.call1((py.None(),))?;
        names::set_asyncgen_hooks(py)?.call1(outer_hooks)?;
        started
    }

    /// Gives background tasks their turn after a call that did not suspend.
    fn turn_if_needed(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.hooks.is_none() {
            return Ok(());
        }
        let is_idle = event_loop.getattr(intern!(py, "_ready"))?.len()? == 0
            && event_loop.getattr(intern!(py, "_scheduled"))?.len()? == 0;
        if is_idle {
            return Ok(());
        }
        let stop = event_loop.getattr(intern!(py, "stop"))?;
        event_loop.call_method1(intern!(py, "call_soon"), (stop,))?;
        event_loop.call_method0(intern!(py, "run_forever")).map(drop)
    }

    /// Ends the loop; in its own thread.
    pub fn close(&self, py: Python<'_>) {
        let Some(event_loop) = lock(&self.event_loop).take() else { return };
        let event_loop = event_loop.bind(py);
        let _ended = Ended(&self.ended);
        let Ok(_inside) = process::enter(py) else { return };
        let cleaned = shutdown::clean_up(py, event_loop, self.cleanup, &self.name);
        let closed = event_loop.call_method0(intern!(py, "close")).map(drop);
        if let Err(error) = cleaned.and(closed) {
            names::log(py, "error", "the loop could not be closed cleanly", Some(&error));
        }
    }
}

/// A suspended call, whose loop has to turn until it ends.
struct Drive<'a, 'py> {
    own: &'a OwnLoop,
    event_loop: &'a Bound<'py, PyAny>,
    call: &'a Arc<Call>,
    patience: Patience,
    begun: Instant,
}

enum Stopped {
    Timeout,
    Signal(PyErr),
    /// Somebody called `loop.stop()`.
    ByUser,
}

impl Drive<'_, '_> {
    fn to_the_end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut timers = Vec::new();
        let result = self.turn_until_settled(py, &mut timers);
        // A call that is left behind must not stop the loop under a later one.
        self.call.stop_when_settled(None);
        for timer in timers {
            timer.call_method0(intern!(py, "cancel"))?;
        }
        result
    }

    fn turn_until_settled<'py>(&self, py: Python<'py>, timers: &mut Vec<Bound<'py, PyAny>>) -> PyResult<Py<PyAny>>
    where
        Self: 'py,
    {
        let event_loop = self.event_loop.as_any().clone().unbind().into_bound(py);
        let stop = event_loop.getattr(intern!(py, "stop"))?;
        let later = |span: Duration| event_loop.call_method1(intern!(py, "call_later"), (span.as_secs_f64(), &stop));
        if let Some(timeout) = self.patience.timeout {
            timers.push(later(timeout.saturating_sub(self.begun.elapsed()))?);
        }
        let finish = event_loop.getattr_opt(intern!(py, "finish"))?.unwrap_or_else(|| stop.clone());
        self.call.stop_when_settled(Some(finish.unbind()));
        let mut stopped: Option<Stopped> = None;
        let mut give_up_at = None;
        loop {
            let turned = event_loop.call_method0(intern!(py, "run_forever"));
            if let Some(outcome) = self.call.take() {
                return self.deliver(py, stopped, outcome);
            }
            let now = Instant::now();
            // An error is what a signal handler raised.
            match (turned.err(), stopped.is_some()) {
                (None, _) if self.own.is_closing() => {
                    for timer in timers.drain(..) {
                        timer.call_method0(intern!(py, "cancel"))?;
                    }
                    return self.end_with_the_loop(py, stopped);
                }
                // A second signal stops the waiting.
                (Some(error), true) => {
                    self.call.abandon(py);
                    return Err(error);
                }
                (Some(error), false) => stopped = Some(Stopped::Signal(error)),
                (None, true) if give_up_at.is_some_and(|at| at <= now) => {
                    self.call.abandon(py);
                    wait::orphaned(py, self.call, &self.own.name, self.patience.cleanup.as_secs_f64());
                    return Err(match stopped {
                        Some(Stopped::Signal(error)) => error,
                        Some(Stopped::ByUser) => errors::closed_meanwhile(py, &self.own.name),
                        Some(Stopped::Timeout) | None => wait::timed_out(self.patience.timeout),
                    });
                }
                (None, true) => continue,
                (None, false) => {
                    stopped = Some(if self.is_late() { Stopped::Timeout } else { Stopped::ByUser });
                }
            }
            self.call.cancel(py)?;
            give_up_at = now.checked_add(self.patience.cleanup);
            timers.push(later(self.patience.cleanup)?);
        }
    }

    /// Closing the loop cancels the call among its tasks, within the time that a closing loop has.
    fn end_with_the_loop(&self, py: Python<'_>, stopped: Option<Stopped>) -> PyResult<Py<PyAny>> {
        // What settles the call must not break off the rest of the cleanup.
        self.call.stop_when_settled(None);
        self.own.close(py);
        if let Some(outcome) = self.call.take() {
            return self.deliver(py, stopped.or(Some(Stopped::ByUser)), outcome);
        }
        self.call.abandon(py);
        process::end_daemon_thread(py)?;
        Err(errors::closed_meanwhile(py, &self.own.name))
    }

    fn is_late(&self) -> bool {
        self.patience.timeout.is_some_and(|timeout| self.begun.elapsed() + TIMER_SLACK >= timeout)
    }

    fn deliver(&self, py: Python<'_>, stopped: Option<Stopped>, outcome: Outcome) -> PyResult<Py<PyAny>> {
        let was_cancelled = matches!(&outcome, Outcome::Raised(error) if call::is_cancelled(py, error));
        match (stopped, outcome) {
            (Some(Stopped::Signal(signal)), outcome) => Err(wait::interrupted(py, signal, outcome)),
            (stopped, Outcome::Raised(error))
                if was_cancelled
                    && (matches!(stopped, Some(Stopped::Timeout)) || (stopped.is_none() && self.is_late())) =>
            {
                Err(errors::from_cause(py, wait::timed_out(self.patience.timeout), error))
            }
            (Some(Stopped::ByUser), _) if process::is_exiting() && !process::is_main_thread(py) => {
                Err(PySystemExit::new_err(()))
            }
            (Some(Stopped::ByUser), outcome) => wait::result_of(py, outcome, || true, &self.own.name),
            (_, outcome) => wait::result_of(py, outcome, || self.own.is_closing(), &self.own.name),
        }
    }
}
