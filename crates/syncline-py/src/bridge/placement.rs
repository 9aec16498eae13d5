//! Placement: which loop gets a call. Loops that are missing are started here.
//!
//! Invariants:
//! 1. A call made on a loop's thread never waits for a thread that waits for this one: it goes to the first runner that
//!    doesn't.
//! 2. No lock is held while a runner starts.
//! 3. Where a call runs is decided once: by `place`, or by `place_elsewhere` where the caller knows already that the
//!    call can't await in place. Whoever has the answer only carries it out.

use super::caller_loop::CallerLoop;
use super::loops_of_thread::{self, Making};
use super::shared::{InLoop, Scope, Shared};
use crate::call::wait::Patience;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process::{self, Inside};
use crate::python::surroundings::{self, Backend};
use crate::python::thread_end;
use crate::python::threads::thread_key;
use crate::runner::key::RunnerKey;
use crate::runner::registry::Find;
use crate::runner::state::{Plan, Runner, current_runner};
use crate::runner::thread;
use crate::switch::greenlets;
use crate::switch::nest;
use crate::switch::nestable;
use crate::switch::strand::Strand;
use crate::worker::behind::{self, Behind};
use crate::worker::from_thread::Sender;
use crate::worker::workers;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

/// How many runners a call starts, one after the other, if each ends before the call could have it.
const MOST_STARTS: u32 = 4;

/// Where a call runs.
pub enum Place {
    /// In the task that makes it, which awaits it in place.
    InTask(Arc<Strand>),
    /// On a runner, while the task that makes it is parked, so that its own loop goes on.
    Away(Arc<Strand>),
    /// On the loop that sent this worker thread.
    Sender(Sender),
    Runner(Arc<Runner>),
    /// On the calling thread's own loop.
    Own(Arc<CallerLoop>),
    /// The process exits, and no thread can be started any more: on a new loop for this one call, in this thread.
    /// `Inside` makes the exit wait for it.
    Inline(Inside),
}

impl Place {
    fn inline() -> Self {
        Self::Inline(process::step_inside())
    }

    /// For what only a runner can have.
    pub fn runner(self) -> PyResult<Arc<Runner>> {
        match self {
            Self::Runner(runner) => Ok(runner),
            Self::InTask(_) | Self::Away(_) | Self::Sender(..) | Self::Own(_) | Self::Inline(_) => {
                Err(errors::shutting_down())
            }
        }
    }
}

impl Shared {
    pub fn refuse_if_closed(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_closed() {
            return Ok(());
        }
        // The thread that closed the bridge could not close this thread's own loop.
        loops_of_thread::close(py, self)?;
        Err(errors::bridge_closed(py, &self.name))
    }

    /// Decides where a call of an open bridge runs (by 3), and starts a loop if need be.
    pub fn place(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        match nest::strand_for(py, &self.terms) {
            Some(strand) => Ok(Place::InTask(strand)),
            None => self.place_elsewhere(py, patience),
        }
    }

    /// The same where the call can't await in place.
    pub fn place_elsewhere(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        if self.joins_sender && !surroundings::in_event_loop(py)? {
            match Sender::find(py)? {
                Some(sender) => return Ok(Place::Sender(sender)),
                None if workers::is_marked() => return Err(no_sender(&self.name)),
                None => {}
            }
        }
        self.place_on_other_loop(py, patience)
    }

    /// The task that makes the call, if the call can await in place there. This is asked first; if it has an answer,
    /// nothing else matters.
    pub fn task_here(&self, py: Python<'_>) -> PyResult<Option<Arc<Strand>>> {
        self.refuse_if_closed(py)?;
        Ok(nest::strand_for(py, &self.terms))
    }

    /// The task that makes the call, if the call runs elsewhere, and the task can be parked meanwhile.
    pub fn task_to_park(&self, py: Python<'_>) -> Option<Arc<Strand>> {
        nest::strand_to_park(py, &self.terms).filter(|_| !process::is_exiting())
    }

    /// Whether the calling thread drives a loop of this bridge, or its code runs in a task that takes this bridge's
    /// calls.
    pub fn runs_here(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.task_here(py)?.is_some()
            || self.terms.is_onto_this(py)
            || current_runner().is_some_and(|current| current.bridge_id == self.terms.bridge)
            || loops_of_thread::known(self).is_some_and(|own| own.is_busy()))
    }

    /// As `place`, but never the loop that sent this worker: for objects whose steps are all made in one place, and may
    /// be made by other threads too.
    pub fn place_on_loop(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        if let Some(strand) = self.task_here(py)? {
            return Ok(Place::InTask(strand));
        }
        self.place_on_other_loop(py, patience)
    }

    fn place_on_other_loop(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        if let Some(strand) = nest::strand_to_park(py, &self.terms) {
            if self.is_left_to_tasks(py)? {
                return Ok(Place::InTask(strand));
            }
            if !process::is_exiting() {
                return Ok(Place::Away(strand));
            }
        }
        nestable::explain_blocking(py, &self.terms)?;
        let _inside = process::enter(py)?;
        if let Some(runner) = &self.attached {
            if self.terms.is_onto_this(py) {
                return Err(waits_for_its_own_loop(py, &self.name));
            }
            self.look_at_loop_here(py)?;
            return self.attached_runner(py, runner).map(Place::Runner);
        }
        if process::is_exiting() {
            return Ok(Place::inline());
        }
        if let Some(current) = current_runner() {
            return self.place_nested(py, &current, patience);
        }
        self.look_at_loop_here(py)?;
        if let Some(place) = self.place_beside(py, patience)? {
            return Ok(place);
        }
        match self.scope {
            Scope::Process => self.process_runner(py, patience),
            Scope::Thread => self.thread_runner(py, patience),
            Scope::Caller => self.own_place(py, patience),
        }
    }

    /// The runner for a call that no thread waits for: one of `submit`, or one that a task of another loop awaits. A
    /// calling thread's own loop would not turn by itself, and whoever waits for the call could wait in vain. So could
    /// they on a loop whose thread waits for the loop behind this code (1).
    pub fn runner_for_others(self: &Arc<Self>, py: Python<'_>) -> PyResult<Arc<Runner>> {
        self.place_for_others(py)?.runner()
    }

    /// The same, or `Inline` where the process exits, for a call that may as well come to its end here and now.
    pub fn place_for_others(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        self.refuse_if_closed(py)?;
        if let Some(runner) = &self.attached {
            return self.attached_runner(py, runner).map(Place::Runner);
        }
        if process::is_exiting() {
            return Ok(Place::inline());
        }
        let place = match (self.scope, current_runner()) {
            // This thread doesn't wait, so the call can run on the loop of this very thread.
            (_, Some(current)) if current.bridge_id == self.terms.bridge => return Ok(Place::Runner(current)),
            (Scope::Thread, _) => self.thread_runner(py, self.patience(None))?,
            (Scope::Process | Scope::Caller, _) => self.process_runner(py, self.patience(None))?,
        };
        let Place::Runner(runner) = &place else { return Ok(place) };
        if !runner.node.is_waiting() {
            return Ok(place);
        }
        let behind = Behind::here(py)?;
        if behind.is(runner) || !behind.holds_up(runner) {
            return Ok(place);
        }
        self.level(py, runner.key.level_above(), self.patience(None), |runner| behind.holds_up(runner))
    }

    /// Whether a call that no thread waits for would have to start its runner first, which any thread can do for it.
    pub fn is_cold(&self, py: Python<'_>) -> bool {
        let is_startable = self.attached.is_none() && self.scope != Scope::Thread;
        is_startable && !self.has_a_runner() && !process::has_program_ended(py)
    }

    fn has_a_runner(&self) -> bool {
        self.registry().any(|runner| runner.takes_calls())
    }

    /// Whether the program has ended and no runner can be started any more, so that a task awaits in place what it would await
    /// on the bridge's loop. Not on threads of ours, which are about to end.
    pub fn is_left_to_tasks(self: &Arc<Self>, py: Python<'_>) -> PyResult<bool> {
        if self.attached.is_some()
            || current_runner().is_some()
            || self.has_a_runner()
            || !process::has_program_ended(py)
        {
            return Ok(false);
        }
        let can_be_had = self.terms.backend == Backend::Asyncio && names::running_loop(py)?.is_some();
        Ok(can_be_had && matches!(self.place_for_others(py)?, Place::Inline(_)))
    }

    /// Warns, or raises, if a wait is about to block a loop of somebody else's, and the user wants to know.
    pub fn look_at_loop_here(&self, py: Python<'_>) -> PyResult<()> {
        if self.in_loop == InLoop::Block { Ok(()) } else { self.look_at_loop(py, "call") }
    }

    /// The same for the wait of a future of `submit`.
    pub fn look_before_result(&self, py: Python<'_>) -> PyResult<()> {
        if self.in_loop == InLoop::Block { Ok(()) } else { self.look_at_loop(py, "future") }
    }

    /// The same for the wait of `close`.
    pub fn look_before_closing(&self, py: Python<'_>) -> PyResult<()> {
        if self.in_loop == InLoop::Block || !self.waits_for_loops(py) { Ok(()) } else { self.look_at_loop(py, "close") }
    }

    #[cold]
    fn look_at_loop(&self, py: Python<'_>, waiting: &str) -> PyResult<()> {
        if current_runner().is_some() || !surroundings::in_event_loop(py)? {
            return Ok(());
        }
        names::blocks_loop(py)?.call1((&self.name, self.in_loop == InLoop::Error, waiting)).map(drop)
    }

    /// The runner onto the loop of somebody else's, if that takes calls.
    fn attached_runner(&self, py: Python<'_>, runner: &Arc<Runner>) -> PyResult<Arc<Runner>> {
        if runner.epoch != process::epoch() {
            return Err(errors::runner_closed(
                py,
                format!(
                    "the loop that the bridge {:?} is onto runs in the process that this one was forked from; make a \
                     Bridge(loop=...) onto a loop of this process, or a Bridge() with a loop of its own",
                    self.name
                ),
            ));
        }
        if runner.takes_calls() { Ok(Arc::clone(runner)) } else { Err(runner.gone(py)) }
    }

    /// For a runner's thread, where the call can't await in place: a runner that does not wait for this thread.
    fn place_nested(self: &Arc<Self>, py: Python<'_>, current: &Arc<Runner>, patience: Patience) -> PyResult<Place> {
        let is_ours = current.bridge_id == self.terms.bridge;
        if is_ours {
            if current.event_loop(py).is_none() {
                return Err(factory_calls_its_bridge(py, &self.name));
            }
            if self.nested_is_error {
                return Err(errors::nested(&self.name));
            }
            self.terms.stats.nested.add(1);
        }
        // By 1. Sync code on a lower runner of this bridge may only be about to wait for what runs here. Of the higher
        // ones, those whose thread waits for anything at all are passed over, too.
        let first_level = if is_ours { current.key.level_above() } else { 0 };
        self.level(py, first_level, patience, |runner| {
            if is_ours { runner.node.is_waiting() } else { runner.node.leads_to(&current.node) }
        })
    }

    /// For a worker thread, and for that of a loop of somebody else's which a bridge is onto. By 1 its call does not go to
    /// another loop whose thread waits, in a nested call, for the one that sent this thread, or that runs here.
    fn place_beside(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Option<Place>> {
        let behind = Behind::here(py)?;
        if behind.is_nobody() || self.scope == Scope::Thread {
            return Ok(None);
        }
        let held_up = |runner: &Arc<Runner>| !behind.is(runner) && behind.holds_up(runner);
        // As for the sender's own code: what it works for may be about to wait on a lower runner of this bridge.
        let first_level = match behind::sending_runner().map(|sender| (sender.bridge_id, sender.key.clone())) {
            Some((bridge, RunnerKey::Level(level))) if self.scope == Scope::Process && bridge == self.terms.bridge => {
                level
            }
            _ => 0,
        };
        if first_level == 0 && !self.registry().any(held_up) {
            return Ok(None);
        }
        self.level(py, first_level, patience, held_up).map(Some)
    }

    /// Whether a call for that runner could as well go to another one, which placement finds when it is asked again.
    pub fn has_others(&self, runner: &Runner) -> bool {
        runner.attached.is_none() && (self.scope != Scope::Thread || current_runner().is_some())
    }

    fn own_place(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        let known = loops_of_thread::known(self).filter(|own| own.is_open());
        if known.as_ref().is_some_and(|own| own.is_busy()) {
            if self.nested_is_error {
                return Err(errors::nested(&self.name));
            }
            self.terms.stats.nested.add(1);
        }
        // No loop can run inside of a running loop. In a trio task, code on a loop of ours would believe to be run by
        // trio.
        if names::running_loop(py)?.is_some() || surroundings::runs_trio(py)? {
            return self.process_runner(py, patience);
        }
        match known {
            Some(own) if own.is_busy() => self.process_runner(py, patience),
            Some(own) => Ok(Place::Own(own)),
            // What makes the loop makes a call, too: its loop_factory, or a signal handler in the middle of that.
            None if Making::is_under_way(self) => self.process_runner(py, patience),
            // Nothing would end it.
            None if thread_end::is_over(py)? => self.process_runner(py, patience),
            None => {
                let _making = Making::begin(self);
                // A finalizer's call may have made it since the last look.
                if let Some(own) = loops_of_thread::known(self).filter(|own| own.is_open()) {
                    return Ok(Place::Own(own));
                }
                let own = self.make_own_loop(py)?;
                if let Err(error) = loops_of_thread::keep(py, self, &own) {
                    own.close_quietly(py);
                    return Err(error);
                }
                Ok(Place::Own(own))
            }
        }
    }

    pub fn make_own_loop(&self, py: Python<'_>) -> PyResult<Arc<CallerLoop>> {
        if self.terms.backend == Backend::Trio {
            return Err(errors::shutting_down());
        }
        let factory = self.loop_factory.as_ref().map(|factory| factory.bind(py));
        let switches = self.terms.switches && !process::is_finalizing(py)? && greenlets::are_there(py)?;
        let driving = nest::Driving::Ours { bridge: self.terms.bridge, switches };
        let own = CallerLoop::new(py, &self.name, factory, self.cleanup, driving, self.is_visible, self.stall_after)?;
        self.loops.own.add(Arc::downgrade(&own));
        Ok(own)
    }

    fn process_runner(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        self.runner(py, &RunnerKey::Level(0), patience)
    }

    fn thread_runner(self: &Arc<Self>, py: Python<'_>, patience: Patience) -> PyResult<Place> {
        let key = RunnerKey::Thread(thread_key());
        if !loops_of_thread::has_runner(self) && thread_end::is_over(py)? {
            return self.process_runner(py, patience); // nothing would end its own
        }
        let place = self.runner(py, &key, patience)?;
        if let Place::Runner(runner) = &place {
            loops_of_thread::note_runner(py, self, runner)?;
        }
        Ok(place)
    }

    /// The first runner from that level up that is not to be avoided.
    pub fn level(
        self: &Arc<Self>,
        py: Python<'_>,
        first: u32,
        patience: Patience,
        avoid: impl Fn(&Arc<Runner>) -> bool,
    ) -> PyResult<Place> {
        for level in first.. {
            match self.runner(py, &RunnerKey::Level(level), patience)? {
                Place::Runner(runner) if avoid(&runner) => {}
                place => return Ok(place),
            }
        }
        Err(PyRuntimeError::new_err("nested too deeply"))
    }

    fn runner(self: &Arc<Self>, py: Python<'_>, key: &RunnerKey, patience: Patience) -> PyResult<Place> {
        let registry = self.registry();
        let mut starts = 0;
        loop {
            let (starting, is_mine) = match registry.find(key, thread_key(), |runner| runner.takes_calls()) {
                Find::Alive(runner) => return Ok(Place::Runner(runner)),
                Find::Wait(starting) => (starting, false),
                Find::Closed => return Err(errors::bridge_closed(py, &self.name)),
                // Each runner that this call has started ended before the call could have it.
                Find::Start(_) if starts == MOST_STARTS => return Err(errors::closed_meanwhile(py, &self.name)),
                Find::Start(duty) => {
                    starts += 1;
                    let starting = Arc::clone(duty.starting());
                    match self
                        .plan(py, key)
                        .and_then(|plan| thread::start(py, plan, duty, |runner| self.note_start(runner)))
                    {
                        Ok(()) => {}
                        Err(error) if errors::is_too_late(py, &error) => return Ok(Place::inline()),
                        Err(error) => return Err(error),
                    }
                    (starting, true)
                }
            };
            // By 1. The loop factory runs on the new thread, and may wait for a loop that would wait here.
            let current = current_runner();
            let edge = current.as_ref().map(|current| current.node.wait_for(&starting.node));
            if let Some(Err(_)) = edge {
                return Err(factory_calls_its_bridge(py, &self.name));
            }
            match thread::wait_for_start(py, &starting, is_mine, patience) {
                Err(error) if errors::is_too_late(py, &error) => return Ok(Place::inline()),
                started => started?,
            }
            // The exit may have begun in the meantime.
            process::end_daemon_thread(py)?;
        }
    }

    fn note_start(&self, runner: &Arc<Runner>) {
        self.loops.starting.add(Arc::downgrade(runner));
    }

    fn plan(&self, py: Python<'_>, key: &RunnerKey) -> PyResult<Plan> {
        let name = match key {
            RunnerKey::Level(0) => self.name.clone(),
            RunnerKey::Level(level) => format!("{}-nested-{level}", self.name),
            RunnerKey::Thread(_) => {
                let thread: String = names::current_thread(py)?.call0()?.getattr(intern!(py, "name"))?.extract()?;
                format!("{}-thread-{thread}", self.name)
            }
        };
        Ok(Plan {
            name,
            key: key.clone(),
            bridge_id: self.terms.bridge,
            cleanup: self.cleanup,
            loop_factory: self.loop_factory.as_ref().map(|factory| factory.clone_ref(py)),
            backend: self.terms.backend,
            switches: self.terms.switches && greenlets::are_there(py)?,
            is_visible: self.is_visible,
            stall_after: self.stall_after,
        })
    }
}

fn no_sender(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "the bridge {name:?} runs the calls of worker threads on the loop that sent the thread (in_worker=\"sender\"), and no \
         loop has sent this one: it was marked as a worker by the program; use a bridge with in_worker=\"own\" here, or come \
         here by `await to_thread(...)`"
    ))
}

fn waits_for_its_own_loop(py: Python<'_>, name: &str) -> PyErr {
    errors::deadlock(
        py,
        format!(
            "the bridge {name:?} is onto the very loop that runs in this thread, and sync code that waits here would stop \
             it; await the async function, or let the calls of this task await in place: decorate an async function \
             above it with @syncline.nestable, or `await syncline.run_nestable(fn, ...)`"
        ),
    )
}

fn factory_calls_its_bridge(py: Python<'_>, name: &str) -> PyErr {
    errors::deadlock(
        py,
        format!(
            "the loop_factory of the bridge {name:?}, or what ran in the middle of it, made a call that waits for the \
             very loop which it is to make; make the call before, or through another bridge"
        ),
    )
}
