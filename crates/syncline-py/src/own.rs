//! Scope "caller": a thread's own loop, which that thread drives while it waits.
//!
//! There is no second thread, and nothing to wake: a call that never suspends costs one task. Background tasks move
//! only during calls: each call turns the loop at least once if something is ready or scheduled.
//!
//! Invariants:
//! 1. Only its own thread touches a loop. 2. While it is driven, or a first step runs, it is the running loop of its
//!    thread, and `busy`: a call made meanwhile (a nested one, a signal handler's) goes to a runner.

use crate::call::{self, Call, Outcome};
use crate::errors;
use crate::names;
use crate::once::intern;
use crate::process;
use crate::runner;
use crate::shutdown;
use crate::switch::nest::{self, Driving};
use crate::switch::nestable;
use crate::target::Target;
use crate::tasks::{self, Home};
use crate::wait::{self, Patience};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

const TIMER_SLACK: Duration = Duration::from_millis(10);

pub struct OwnLoop {
    pub name: Arc<str>,
    pub epoch: u32,
    event_loop: Mutex<Option<Py<PyAny>>>,
    /// The loop's hooks for async generators, if it is our class, which can take a first step outside of its turns.
    hooks: Option<Py<PyTuple>>,
    busy: AtomicBool,
    pub cleanup: Duration,
    driving: Driving,
}

/// By 2.
struct Busy<'a>(&'a AtomicBool, Driving);

impl<'a> Busy<'a> {
    fn new(own: &'a OwnLoop) -> Self {
        own.busy.store(true, Relaxed);
        Self(&own.busy, nest::drive(own.driving))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
        nest::drive(self.1);
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
        let event_loop = runner::make_loop(match factory {
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
            cleanup,
            driving,
        });
        process::remember_own(&own);
        Ok(own)
    }

    /// Asks the thread that drives the loop to leave it; for any thread.
    pub fn stop_from_outside(&self, py: Python<'_>) {
        let event_loop = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py));
        let stopped = event_loop.map_or(Ok(()), |event_loop| {
            let stop = event_loop.getattr(py, intern!(py, "stop"))?;
            event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (stop,)).map(drop)
        });
        if let Err(error) = stopped {
            error.write_unraisable(py, None);
        }
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
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
        let event_loop = lock(&self.event_loop).as_ref().map(|event_loop| event_loop.clone_ref(py));
        let Some(event_loop) = event_loop else {
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
        let _busy = Busy::new(self);
        let begun = Instant::now();
        let deadline = patience.timeout.and_then(|timeout| begun.checked_add(timeout));
        let call = Call::on_own_loop(&self.name, deadline, Arc::clone(stats));
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
        event_loop.setattr(intern!(py, "is_stepping"), true)?;
        names::set_running_loop(py)?.call1((event_loop,))?;
        let started = tasks::start(event_loop, call, target, home, true);
        names::set_running_loop(py)?.call1((py.None(),))?;
        event_loop.setattr(intern!(py, "is_stepping"), false)?;
        names::set_asyncgen_hooks(py)?.call1((outer_hooks.get_item(0)?, outer_hooks.get_item(1)?))?;
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
        self.call.stop_when_settled(Some(stop.clone().unbind()));
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

    fn is_late(&self) -> bool {
        // Loops round their timers, and uvloop reads its clock once a turn: they may be early by a little.
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
            (_, outcome) => wait::result_of(py, outcome, || false, &self.own.name),
        }
    }
}
