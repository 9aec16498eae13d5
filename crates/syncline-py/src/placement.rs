//! Placement: which loop gets a call, and the loops that a bridge has.
//!
//! Invariants:
//! 1. A call made on a loop thread never waits for a thread that waits for it: it goes to the first runner that does
//!    not. 2. In a forked child a bridge starts over, with no runner. 3. No lock is held while a runner starts.

use crate::context::Carried;
use crate::errors;
use crate::from_thread;
use crate::names;
use crate::once::intern;
use crate::own::OwnLoop;
use crate::process;
use crate::runner::{self, Backend, Plan, Runner};
use crate::signals;
use crate::surroundings;
use crate::switch::greenlets;
use crate::switch::nest;
use crate::target::Target;
use crate::tasks::Home;
use crate::thread_end;
use crate::wait::{Patience, hop};
use crate::workers;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::runners::{Find, Runners};
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process,
    Thread,
    Caller,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// 0 is the process runner; those above serve nested calls.
    Level(u32),
    /// Scope "thread": by a number that no other thread ever has.
    Thread(u64),
}

pub type Registry = Runners<Key, Arc<Runner>>;

pub struct Shared {
    pub id: u64,
    pub name: String,
    pub scope: Scope,
    pub nested_is_error: bool,
    /// Nested calls await in place where they can.
    pub nested_switches: bool,
    pub shares_context: bool,
    /// Whether a call in a worker thread runs on the loop that sent the worker.
    pub joins_sender: bool,
    pub backend: Backend,
    pub loop_factory: Option<Arc<Py<PyAny>>>,
    pub cleanup: Duration,
    pub stall_after: Option<Duration>,
    pub closed: AtomicBool,
    /// With the epoch that it belongs to (by 2).
    pub registry: Mutex<(u32, Arc<Registry>)>,
    /// Scope "caller": the threads' own loops, for show.
    pub own_loops: Mutex<Vec<Weak<OwnLoop>>>,
    pub stats: Arc<Stats>,
}

pub enum Place {
    Runner(Arc<Runner>),
    Own(Arc<OwnLoop>),
    /// No thread can be started any more: a loop for this one call, in this thread.
    Inline,
}

impl Place {
    /// The process that its loop belongs to.
    pub fn epoch(&self) -> Option<u32> {
        match self {
            Self::Runner(runner) => Some(runner.epoch),
            Self::Own(own) => Some(own.epoch),
            Self::Inline => None,
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD_KEY: Cell<Option<u64>> = const { Cell::new(None) };
    /// The loops of this thread, by bridge.
    static OWN: RefCell<HashMap<u64, Arc<OwnLoop>>> = RefCell::default();
}

/// Leaves this thread's loops to the end of the process: they can neither be closed any more nor be freed unclosed,
/// which asyncio would complain of.
pub fn leave_own_loops() {
    std::mem::forget(OWN.take());
}

pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

pub fn thread_key() -> u64 {
    THREAD_KEY.get().unwrap_or_else(|| {
        let key = next_id();
        THREAD_KEY.set(Some(key));
        key
    })
}

impl Shared {
    pub fn registry(&self) -> Arc<Registry> {
        let mut registry = lock(&self.registry);
        if registry.0 != process::epoch() {
            // By 2; the parent's runners are never freed here.
            let parents = std::mem::replace(&mut *registry, (process::epoch(), Arc::new(Registry::new())));
            std::mem::forget(parents);
        }
        Arc::clone(&registry.1)
    }

    pub fn refuse_if_closed(&self, py: Python<'_>) -> PyResult<()> {
        if !self.closed.load(Acquire) {
            return Ok(());
        }
        // Another thread closed the bridge, and could not do this.
        self.close_own_loop(py);
        Err(errors::bridge_closed(py, &self.name))
    }

    pub fn place(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        self.refuse_if_closed(py)?;
        let _inside = process::enter(py)?;
        if process::is_exiting() {
            return Ok(Place::Inline);
        }
        if let Some(current) = runner::current() {
            return self.place_nested(py, &current);
        }
        if let Some(place) = self.place_in_worker(py)? {
            return Ok(place);
        }
        match self.scope {
            Scope::Process => self.runner(py, &Key::Level(0), &self.name),
            // A loop that is not ours waits while its thread waits; there the process runner serves all scopes.
            Scope::Thread if names::running_loop(py)?.is_some() => self.runner(py, &Key::Level(0), &self.name),
            Scope::Thread => self.thread_runner(py),
            Scope::Caller => self.own_place(py),
        }
    }

    /// For a thread that drives one of our loops.
    fn place_nested(self: &Arc<Self>, py: Python<'_>, current: &Arc<Runner>) -> PyResult<Place> {
        let is_ours = current.bridge_id == self.id;
        if is_ours {
            if self.nested_is_error {
                return Err(errors::nested(&self.name));
            }
            self.stats.nested.add(1);
        }
        let first_level = u32::from(is_ours && self.scope == Scope::Thread);
        // By 1. Of our own runners, one whose thread is held up by a deeper call is passed over too.
        self.level(py, first_level, |runner| {
            if is_ours {
                runner.node.is_waiting() || Arc::ptr_eq(runner, current)
            } else {
                runner.node.leads_to(&current.node)
            }
        })
    }

    /// For a worker thread that one of our loops waits for: by 1 its call does not go to a loop whose thread waits, in a
    /// nested call, for that one.
    fn place_in_worker(self: &Arc<Self>, py: Python<'_>) -> PyResult<Option<Place>> {
        let sender = workers::current().and_then(|work| work.home().and_then(|home| home.runner()));
        let Some(sender) = sender.filter(|_| self.scope != Scope::Thread) else { return Ok(None) };
        let held_up = |runner: &Arc<Runner>| !Arc::ptr_eq(runner, &sender) && runner.node.leads_to(&sender.node);
        if !self.registry().alive().iter().any(held_up) {
            return Ok(None);
        }
        self.level(py, 0, held_up).map(Some)
    }

    fn own_place(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        let known = OWN.with_borrow(|own| own.get(&self.id).cloned());
        let known = known.filter(|own| own.epoch == process::epoch() && own.is_open());
        if known.as_ref().is_some_and(|own| own.is_busy()) {
            if self.nested_is_error {
                return Err(errors::nested(&self.name));
            }
            self.stats.nested.add(1);
        }
        // trio's tasks a loop of ours would take for its own surroundings.
        if names::running_loop(py)?.is_some() || surroundings::runs_trio(py)? {
            return self.runner(py, &Key::Level(0), &self.name);
        }
        match known {
            Some(own) if own.is_busy() => self.runner(py, &Key::Level(0), &self.name),
            Some(own) => Ok(Place::Own(own)),
            None => self.new_own_loop(py).map(Place::Own),
        }
    }

    pub fn make_own_loop(&self, py: Python<'_>) -> PyResult<Arc<OwnLoop>> {
        if self.backend == Backend::Trio {
            return Err(errors::shutting_down());
        }
        let factory = self.loop_factory.as_ref().map(|factory| factory.bind(py));
        let switches = self.nested_switches && greenlets::are_there(py)?;
        let driving = nest::Driving::Ours { bridge: self.id, switches };
        let own = OwnLoop::new(py, &self.name, factory, self.cleanup, driving)?;
        let mut all = lock(&self.own_loops);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&own));
        Ok(own)
    }

    /// Closes the loop that this bridge has for this thread, if nothing runs here. Else that is left to the end of the
    /// call that drives it, to this thread's next call, or to its end.
    pub fn close_own_loop(&self, py: Python<'_>) {
        let Some(own) = OWN.with_borrow(|own| own.get(&self.id).cloned()) else { return };
        if own.epoch != process::epoch() {
            // A parent's loop is not a child's to close, nor to free.
            std::mem::forget(own);
        } else if !own.is_busy() && names::running_loop(py).is_ok_and(|running| running.is_none()) {
            OWN.with_borrow_mut(|own| own.remove(&self.id));
            own.close(py);
        }
    }

    /// Makes the threads that drive loops of their own for this bridge leave and close them; returns those loops.
    fn begin_closing_own_loops(&self, py: Python<'_>) -> Vec<Arc<OwnLoop>> {
        let all: Vec<_> = lock(&self.own_loops).iter().filter_map(Weak::upgrade).collect();
        let mine = OWN.with_borrow(|own| own.get(&self.id).cloned());
        let is_mine = |own: &Arc<OwnLoop>| mine.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, own));
        let mut driven = Vec::new();
        for own in all {
            if own.epoch != process::epoch() {
                std::mem::forget(own);
                continue;
            }
            own.begin_closing(py);
            if own.is_busy() && !is_mine(&own) {
                driven.push(own);
            }
        }
        // A thread that drives a loop can't wait for others: they may wait for it, or be in a close() of their own.
        if mine.is_some_and(|mine| mine.is_busy()) || runner::current().is_some() { Vec::new() } else { driven }
    }

    fn new_own_loop(self: &Arc<Self>, py: Python<'_>) -> PyResult<Arc<OwnLoop>> {
        let own = self.make_own_loop(py)?;
        let id = self.id;
        let closer = Arc::downgrade(&own);
        thread_end::defer(py, move |py| {
            if let Some(own) = closer.upgrade() {
                own.close(py);
            }
            OWN.with_borrow_mut(|own| own.remove(&id));
        })?;
        let replaced = OWN.with_borrow_mut(|known| known.insert(id, Arc::clone(&own)));
        if let Some(stale) = replaced.filter(|stale| stale.epoch != process::epoch()) {
            // A parent's loop is not a child's to free.
            std::mem::forget(stale);
        }
        Ok(own)
    }

    pub fn thread_runner(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        let key = Key::Thread(thread_key());
        let is_new = match self.registry().find(&key, |runner| runner.takes_calls()) {
            Find::Alive(runner) => return Ok(Place::Runner(runner)),
            Find::Start(_) => true,
            Find::Wait(_) | Find::Closed => false,
        };
        let thread: String = names::current_thread(py)?.call0()?.getattr(intern!(py, "name"))?.extract()?;
        let place = self.runner(py, &key, &format!("{}-thread-{thread}", self.name))?;
        if let (true, Place::Runner(runner)) = (is_new, &place) {
            let (shared, runner) = (Arc::downgrade(self), Arc::downgrade(runner));
            thread_end::defer(py, move |py| end_thread_runner(py, &shared, &runner, &key))?;
        }
        Ok(place)
    }

    /// The first runner from that level up that is not to be avoided.
    fn level(self: &Arc<Self>, py: Python<'_>, first: u32, avoid: impl Fn(&Arc<Runner>) -> bool) -> PyResult<Place> {
        for level in first.. {
            let name = if level == 0 { self.name.clone() } else { format!("{}-nested-{level}", self.name) };
            match self.runner(py, &Key::Level(level), &name)? {
                Place::Runner(runner) if avoid(&runner) => {}
                place => return Ok(place),
            }
        }
        Err(PyRuntimeError::new_err("nested too deeply"))
    }

    pub fn runner(self: &Arc<Self>, py: Python<'_>, key: &Key, name: &str) -> PyResult<Place> {
        let registry = self.registry();
        loop {
            match registry.find(key, |runner| runner.takes_calls()) {
                Find::Alive(runner) => return Ok(Place::Runner(runner)),
                Find::Wait(latch) => py.detach(|| latch.wait_through(None)),
                Find::Closed => return Err(errors::bridge_closed(py, &self.name)),
                Find::Start(start) => {
                    let plan = Plan {
                        name: name.to_owned(),
                        is_of_thread: matches!(key, Key::Thread(_)),
                        bridge_id: self.id,
                        cleanup: self.cleanup,
                        loop_factory: self.loop_factory.clone(),
                        backend: self.backend,
                        switches: self.nested_switches && greenlets::are_there(py)?,
                    };
                    let runner = match Runner::start(py, plan) {
                        Ok(runner) => runner,
                        Err(error) if errors::is_too_late(py, &error) => return Ok(Place::Inline),
                        Err(error) => return Err(error),
                    };
                    if let Err(late) = start.ready(Arc::clone(&runner)) {
                        late.begin_closing(py);
                        return Err(errors::bridge_closed(py, &self.name));
                    }
                    return Ok(Place::Runner(runner));
                }
            };
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    pub fn patience(&self, timeout: Option<Duration>) -> Patience {
        Patience { timeout, cleanup: self.cleanup, stall_after: self.stall_after }
    }

    pub fn execute(self: &Arc<Self>, py: Python<'_>, target: Target, timeout: Option<Duration>) -> PyResult<Py<PyAny>> {
        if self.joins_sender
            && let Some((work, home)) = from_thread::sender()
            && names::running_loop(py)?.is_none()
        {
            return from_thread::run_there(py, &work, &home, target, timeout, self.shares_context);
        }
        if let Some(strand) = nest::strand_for(py, self) {
            if let Err(error) = self.refuse_if_closed(py) {
                target.discard(py);
                return Err(error);
            }
            return nest::run(py, self, &strand, target, timeout);
        }
        let mut target = target;
        loop {
            let place = match self.place(py) {
                Ok(place) => place,
                Err(error) => {
                    target.discard(py);
                    return Err(error);
                }
            };
            let carried = Carried::from_caller(py)?;
            let home = Home::Task(carried.context(py));
            let result = match self.execute_at(py, &place, target, home, timeout) {
                Ok(result) => result,
                // The runner ended between our finding it and our sending: there is another one, or an error.
                Err((returned, _)) => {
                    target = returned;
                    continue;
                }
            };
            if self.shares_context {
                carried.write_back(py, true)?;
            }
            signals::raise_kept()?;
            return result;
        }
    }

    /// Gives target and home back if the place takes no calls any more.
    pub fn execute_at(
        self: &Arc<Self>,
        py: Python<'_>,
        place: &Place,
        target: Target,
        home: Home,
        timeout: Option<Duration>,
    ) -> Result<PyResult<Py<PyAny>>, (Target, Home)> {
        let patience = self.patience(timeout);
        if place.epoch().is_some_and(|epoch| epoch != process::epoch()) {
            return Err((target, home));
        }
        match place {
            Place::Own(own) => {
                let result = own.run(py, target, home, patience, &self.stats);
                if self.closed.load(SeqCst) {
                    self.close_own_loop(py);
                }
                Ok(result)
            }
            Place::Inline => Ok(self.run_inline(py, target, home, patience)),
            Place::Runner(runner) => {
                let current = runner::current();
                let edge = current.as_ref().map(|current| current.node.wait_for(&runner.node));
                if let Some(Err(_)) = edge {
                    // Two threads chose each other's runner at the same moment: choose again, the edge is there now.
                    return Err((target, home));
                }
                hop(py, runner, target, home, patience, &self.stats)
            }
        }
    }

    fn run_inline(&self, py: Python<'_>, target: Target, home: Home, patience: Patience) -> PyResult<Py<PyAny>> {
        // Late in the interpreter's end nothing can be imported, not even asyncio.
        let is_free = names::running_loop(py).is_ok_and(|running| running.is_none());
        let made = if is_free { self.make_own_loop(py).ok() } else { None };
        let Some(own) = made else {
            target.discard(py);
            return Err(errors::shutting_down());
        };
        let result = own.run(py, target, home, patience, &self.stats);
        own.close(py);
        result
    }

    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, SeqCst);
        let begun = Instant::now();
        let here = runner::current();
        let mut runners = self.registry().close();
        for runner in &runners {
            runner.begin_closing(py);
        }
        let own_loops = self.begin_closing_own_loops(py);
        // A thread can't wait for its own end, nor for one that waits for it.
        runners.retain(|runner| !here.as_ref().is_some_and(|here| runner.node.leads_to(&here.node)));
        for runner in &runners {
            runner.free_waiters(py, begun);
        }
        for runner in &runners {
            runner.finish_closing(py, begun)?;
        }
        for own in &own_loops {
            own.finish_closing(py, begun);
        }
        self.close_own_loop(py);
        signals::raise_kept()
    }
}

/// Scope "thread": the runner goes with its thread.
fn end_thread_runner(py: Python<'_>, shared: &Weak<Shared>, runner: &Weak<Runner>, key: &Key) {
    let Some(runner) = runner.upgrade() else { return };
    let begun = Instant::now();
    runner.begin_closing(py);
    if let Some(shared) = shared.upgrade() {
        shared.registry().forget(key, |known| Arc::ptr_eq(known, &runner));
    }
    if let Err(error) = runner.finish_closing(py, begun) {
        error.write_unraisable(py, None);
    }
}
