//! The bridge: which loop gets a call.
//!
//! Invariants:
//! 1. A call made on a loop thread never waits for a thread that waits for it: it goes to the first runner that does
//!    not. 2. In a forked child a bridge starts over, with no runner. 3. No lock is held while a runner starts.

use crate::call::{Call, Patience, hop};
use crate::context::{self, Carried};
use crate::errors;
use crate::names;
use crate::own::OwnLoop;
use crate::process;
use crate::runner::{self, Job, Plan, Runner};
use crate::target::Target;
use crate::thread_end;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;
use syncline_core::runners::{Find, Runners};
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Process,
    Thread,
    Caller,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// 0 is the process runner; those above serve nested calls.
    Level(u32),
    /// Scope "thread": by a number that no other thread ever has.
    Thread(u64),
}

type Registry = Runners<Key, Arc<Runner>>;

struct Shared {
    id: u64,
    name: String,
    scope: Scope,
    nested_is_error: bool,
    shares_context: bool,
    loop_factory: Option<Arc<Py<PyAny>>>,
    cleanup: Duration,
    stall_after: Option<Duration>,
    closed: AtomicBool,
    /// With the epoch that it belongs to (by 2).
    registry: Mutex<(u32, Arc<Registry>)>,
    /// Scope "caller": the threads' own loops, for show.
    own_loops: Mutex<Vec<Weak<OwnLoop>>>,
    stats: Arc<Stats>,
}

enum Place {
    Runner(Arc<Runner>),
    Own(Arc<OwnLoop>),
    /// No thread can be started any more: a loop for this one call, in this thread.
    Inline,
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

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

fn thread_key() -> u64 {
    THREAD_KEY.get().unwrap_or_else(|| {
        let key = next_id();
        THREAD_KEY.set(Some(key));
        key
    })
}

impl Shared {
    fn registry(&self) -> Arc<Registry> {
        let mut registry = lock(&self.registry);
        if registry.0 != process::epoch() {
            // By 2; the parent's runners are never freed here.
            let parents = std::mem::replace(&mut *registry, (process::epoch(), Arc::new(Registry::new())));
            std::mem::forget(parents);
        }
        Arc::clone(&registry.1)
    }

    fn place(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        if self.closed.load(Acquire) {
            return Err(errors::bridge_closed(py, &self.name));
        }
        let _inside = process::enter(py)?;
        if process::is_exiting() {
            return Ok(Place::Inline);
        }
        if let Some(current) = runner::current() {
            return self.place_nested(py, &current);
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

    fn own_place(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
        let known = OWN.with_borrow(|own| own.get(&self.id).cloned());
        let known = known.filter(|own| own.epoch == process::epoch() && own.is_open());
        if known.as_ref().is_some_and(|own| own.is_busy()) {
            if self.nested_is_error {
                return Err(errors::nested(&self.name));
            }
            self.stats.nested.add(1);
        }
        if names::running_loop(py)?.is_some() {
            return self.runner(py, &Key::Level(0), &self.name);
        }
        match known {
            Some(own) if own.is_busy() => self.runner(py, &Key::Level(0), &self.name),
            Some(own) => Ok(Place::Own(own)),
            None => self.new_own_loop(py).map(Place::Own),
        }
    }

    fn make_own_loop(&self, py: Python<'_>) -> PyResult<Arc<OwnLoop>> {
        let factory = self.loop_factory.as_ref().map(|factory| factory.bind(py));
        let own = OwnLoop::new(py, &self.name, factory, self.cleanup)?;
        let mut all = lock(&self.own_loops);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&own));
        Ok(own)
    }

    /// Closes the loop that this bridge has for this thread, if it is at rest.
    fn close_own_loop(&self, py: Python<'_>) {
        let own = OWN.with_borrow_mut(|own| own.remove(&self.id));
        if let Some(own) = own.filter(|own| own.epoch == process::epoch() && !own.is_busy()) {
            own.close(py);
        }
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

    fn thread_runner(self: &Arc<Self>, py: Python<'_>) -> PyResult<Place> {
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

    fn runner(self: &Arc<Self>, py: Python<'_>, key: &Key, name: &str) -> PyResult<Place> {
        let registry = self.registry();
        loop {
            match registry.find(key, |runner| runner.takes_calls()) {
                Find::Alive(runner) => return Ok(Place::Runner(runner)),
                Find::Wait(latch) => py.detach(|| latch.wait_through(None)),
                Find::Closed => return Err(errors::bridge_closed(py, &self.name)),
                Find::Start(start) => {
                    let plan = Plan {
                        name: name.to_owned(),
                        bridge_id: self.id,
                        cleanup: self.cleanup,
                        loop_factory: self.loop_factory.clone(),
                    };
                    let runner = match Runner::start(py, plan) {
                        Ok(runner) => runner,
                        Err(error) if is_too_late(py, &error) => return Ok(Place::Inline),
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

    fn patience(&self, timeout: Option<Duration>) -> Patience {
        Patience { timeout, cleanup: self.cleanup, stall_after: self.stall_after }
    }

    fn execute(self: &Arc<Self>, py: Python<'_>, target: Target, timeout: Option<Duration>) -> PyResult<Py<PyAny>> {
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
            let result = match self.execute_at(py, &place, target, &carried, timeout) {
                Ok(result) => result,
                // The runner ended between our finding it and our sending: there is another one, or an error.
                Err(returned) => {
                    target = returned;
                    continue;
                }
            };
            if self.shares_context {
                carried.write_back(py, true)?;
            }
            return result;
        }
    }

    /// `Err(target)` if the place takes no calls any more.
    fn execute_at(
        self: &Arc<Self>,
        py: Python<'_>,
        place: &Place,
        target: Target,
        carried: &Carried,
        timeout: Option<Duration>,
    ) -> Result<PyResult<Py<PyAny>>, Target> {
        let patience = self.patience(timeout);
        match place {
            Place::Own(own) => Ok(own.run(py, target, carried, patience, &self.stats)),
            Place::Inline => Ok(self.run_inline(py, target, carried, patience)),
            Place::Runner(runner) => {
                let current = runner::current();
                let edge = current.as_ref().map(|current| current.node.wait_for(&runner.node));
                if let Some(Err(_)) = edge {
                    // Two threads chose each other's runner at the same moment: choose again, the edge is there now.
                    return Err(target);
                }
                hop(py, runner, target, carried, patience, &self.stats)
            }
        }
    }

    fn run_inline(&self, py: Python<'_>, target: Target, carried: &Carried, patience: Patience) -> PyResult<Py<PyAny>> {
        // Late in the interpreter's end nothing can be imported, not even asyncio.
        let is_free = names::running_loop(py).is_ok_and(|running| running.is_none());
        let made = if is_free { self.make_own_loop(py).ok() } else { None };
        let Some(own) = made else {
            target.discard(py);
            return Err(errors::shutting_down());
        };
        let result = own.run(py, target, carried, patience, &self.stats);
        own.close(py);
        result
    }

    /// Starts the call without waiting; its result goes to `future`.
    fn submit(self: &Arc<Self>, py: Python<'_>, target: Target, future: &Py<PyAny>) -> PyResult<Submitted> {
        let mut target = target;
        loop {
            let runner = match self.place_for_submit(py) {
                Ok(runner) => runner,
                Err(error) => {
                    target.discard(py);
                    return Err(error);
                }
            };
            let call = Call::on_runner(&runner, Arc::clone(&self.stats), Some(future.clone_ref(py)));
            let job = Job::Start(Arc::clone(&call), target, context::copy(py)?);
            match runner.post(py, job) {
                Ok(()) => return Ok(Submitted { call, runner }),
                Err(error) => match error.0 {
                    Job::Start(_, returned, _) => target = returned,
                    Job::Cancel(_) | Job::Stop => return Err(errors::bridge_closed(py, &self.name)),
                },
            }
        }
    }

    /// A loop that moves by itself: a thread's own would not, and its future could be waited for in vain.
    fn place_for_submit(self: &Arc<Self>, py: Python<'_>) -> PyResult<Arc<Runner>> {
        if self.closed.load(Acquire) {
            return Err(errors::bridge_closed(py, &self.name));
        }
        if process::is_exiting() {
            return Err(errors::shutting_down());
        }
        let place = match (self.scope, runner::current()) {
            // Nothing is waited for, so the runner of this very thread will do.
            (_, Some(current)) if current.bridge_id == self.id => Place::Runner(current),
            (Scope::Thread, _) => self.thread_runner(py)?,
            (Scope::Process | Scope::Caller, _) => self.runner(py, &Key::Level(0), &self.name)?,
        };
        match place {
            Place::Runner(runner) => Ok(runner),
            Place::Own(_) | Place::Inline => Err(errors::shutting_down()),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, Release);
        let here = runner::current();
        let runners = self.registry().close();
        for runner in &runners {
            runner.begin_closing(py);
        }
        for runner in &runners {
            // A thread can't wait for its own end, nor for one that waits for it.
            let is_circle = here.as_ref().is_some_and(|here| runner.node.leads_to(&here.node));
            if !is_circle {
                runner.finish_closing(py)?;
            }
        }
        self.close_own_loop(py);
        Ok(())
    }
}

/// Scope "thread": the runner goes with its thread.
fn end_thread_runner(py: Python<'_>, shared: &Weak<Shared>, runner: &Weak<Runner>, key: &Key) {
    let Some(runner) = runner.upgrade() else { return };
    runner.begin_closing(py);
    if let Some(shared) = shared.upgrade() {
        shared.registry().forget(key, |known| Arc::ptr_eq(known, &runner));
    }
    if let Err(error) = runner.finish_closing(py) {
        error.write_unraisable(py, None);
    }
}

/// Python starts no thread once the interpreter shuts down (3.12 and later).
fn is_too_late(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py) && error.to_string().contains("interpreter shutdown")
}

fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    match value {
        None => Ok(None),
        Some(value) if value.is_nan() => {
            Err(PyValueError::new_err(format!("{name} must be a number of seconds or None, not nan")))
        }
        // What is longer than a Duration holds is as good as for ever.
        Some(value) => Ok(Duration::try_from_secs_f64(value.max(0.0)).ok()),
    }
}

fn choose<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> PyResult<T> {
    let found = choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        PyValueError::new_err(format!("{name} must be one of {}, not {value:?}", words.join(", ")))
    })
}

/// The bridge without its decorators; `syncline.Bridge` adds them.
#[pyclass(frozen, subclass, module = "syncline._core")]
pub struct Bridge {
    shared: Arc<Shared>,
}

#[pymethods]
impl Bridge {
    #[new]
    #[pyo3(signature = (*, scope="process", nested="thread", context="share", loop_factory=None, name=None, cleanup_timeout=5.0, stall_after=None))]
    fn new(
        scope: &str,
        nested: &str,
        context: &str,
        loop_factory: Option<Bound<'_, PyAny>>,
        name: Option<String>,
        cleanup_timeout: f64,
        stall_after: Option<f64>,
    ) -> PyResult<Self> {
        if let Some(factory) = loop_factory.as_ref().filter(|factory| !factory.is_callable()) {
            let kind = errors::type_name(factory);
            return Err(PyTypeError::new_err(format!(
                "loop_factory must be a function that returns a new event loop, such as uvloop.new_event_loop, not {kind}"
            )));
        }
        let scopes = [("process", Scope::Process), ("thread", Scope::Thread), ("caller", Scope::Caller)];
        Ok(Self {
            shared: Arc::new(Shared {
                id: next_id(),
                name: name.unwrap_or_else(|| "syncline".to_owned()),
                scope: choose("scope", scope, &scopes)?,
                nested_is_error: choose("nested", nested, &[("thread", false), ("error", true)])?,
                shares_context: choose("context", context, &[("share", true), ("copy", false)])?,
                loop_factory: loop_factory.map(|factory| Arc::new(factory.unbind())),
                cleanup: seconds("cleanup_timeout", Some(cleanup_timeout))?.unwrap_or(Duration::MAX / 4),
                stall_after: seconds("stall_after", stall_after)?,
                closed: AtomicBool::new(false),
                registry: Mutex::new((process::epoch(), Arc::new(Registry::new()))),
                own_loops: Mutex::default(),
                stats: Arc::default(),
            }),
        })
    }

    /// Calls the async function `fn` and waits for its result.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn run_sync(
        &self,
        py: Python<'_>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let target = Target::from_function(r#fn, args, kwargs)?;
        self.shared.execute(py, target, None)
    }

    /// Waits for the result of `awaitable`, for at most `timeout` seconds.
    #[pyo3(signature = (awaitable, *, timeout=None))]
    fn run(&self, py: Python<'_>, awaitable: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let target = Target::from_awaitable(awaitable)?;
        match seconds("timeout", timeout) {
            Ok(timeout) => self.shared.execute(py, target, timeout),
            Err(error) => {
                target.discard(py);
                Err(error)
            }
        }
    }

    fn _submit(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Submitted> {
        self.shared.submit(py, Target::from_function(r#fn, args, kwargs)?, &future)
    }

    /// One loop and one context for several calls.
    fn _pin(&self, py: Python<'_>) -> PyResult<Pinned> {
        let place = self.shared.place(py)?;
        Ok(Pinned { shared: Arc::clone(&self.shared), place, context: context::copy(py)?, thread: thread_key() })
    }

    /// Cancels what runs, closes the loops and ends their threads. Calls that come later raise RunnerClosedError.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.close(py)
    }

    /// Counters of this bridge; see BridgeStats.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = &self.shared;
        let runners = if shared.closed.load(Acquire) { Vec::new() } else { shared.registry().alive() };
        let spins = runners.iter().flat_map(|runner| [runner.caller_spin.counts(), runner.loop_spin.counts()]);
        let (won, lost) = spins.fold((0, 0), |(won, lost), (w, l)| (won + w, lost + l));
        let stats = PyDict::new(py);
        let own_loops = lock(&shared.own_loops).iter().filter_map(Weak::upgrade).filter(|own| own.is_open()).count();
        stats.set_item("runners", runners.iter().filter(|runner| !runner.has_ended()).count() + own_loops)?;
        stats.set_item("calls", shared.stats.calls.get())?;
        stats.set_item("active", shared.stats.calls.get().saturating_sub(shared.stats.ended.get()))?;
        stats.set_item("nested", shared.stats.nested.get())?;
        stats.set_item("wakes", shared.stats.wakes.get())?;
        stats.set_item("spins_won", won)?;
        stats.set_item("spins_lost", lost)?;
        Ok(stats)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.shared.close(py)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.shared.name
    }

    #[getter]
    fn scope(&self) -> &'static str {
        match self.shared.scope {
            Scope::Process => "process",
            Scope::Thread => "thread",
            Scope::Caller => "caller",
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.shared.closed.load(Acquire)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<syncline.Bridge {:?}, scope {:?}{closed}>", self.shared.name, self.scope())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // A bridge that nobody has any more can't be called: its threads end, and nobody waits for that.
        Python::try_attach(|py| {
            if !self.closed() {
                for runner in self.shared.registry().close() {
                    runner.begin_closing(py);
                }
                self.shared.close_own_loop(py);
            }
        });
    }
}

/// What a submitted future knows of its call.
#[pyclass(frozen, module = "syncline._core")]
pub struct Submitted {
    call: Arc<Call>,
    runner: Arc<Runner>,
}

#[pymethods]
impl Submitted {
    /// Cancels the task, on its loop.
    fn cancel(&self, py: Python<'_>) {
        self.call.begin_cancelling();
        // A runner that takes no more mail is ending, and cancels all its tasks.
        let _ = self.runner.post(py, Job::Cancel(Arc::clone(&self.call)));
    }

    /// Calls `wait(timeout)`, which waits for the future, unless that could never end.
    fn wait(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if self.runner.epoch != process::epoch() {
            return Err(errors::runner_closed(
                py,
                "the call belongs to the process that this one was forked from; submit it again here".to_owned(),
            ));
        }
        let current = runner::current();
        let edge = current.as_ref().map(|current| current.node.wait_for(&self.runner.node));
        if let Some(Err(_)) = edge
            && !self.call.is_settled()
        {
            return Err(self.circle(py)?);
        }
        Ok(wait.call1((timeout,))?.unbind())
    }
}

impl Submitted {
    fn circle(&self, py: Python<'_>) -> PyResult<PyErr> {
        let stack_of = py.import("syncline._diagnosis")?.getattr("stack_of")?;
        let here: String = stack_of.call1((names::get_ident(py)?.call0()?,))?.extract()?;
        let there: String = stack_of.call1((self.runner.thread_id(),))?.extract()?;
        Ok(errors::deadlock(
            py,
            format!(
                "this thread waits for a call on the runner {name:?}, which can't run it while this thread waits; await \
                 asyncio.wrap_future(future) instead of future.result()\nthis thread:\n{here}\nthe thread of the runner \
                 {name:?}:\n{there}",
                name = self.runner.name
            ),
        ))
    }
}

/// One loop and one context for all the steps of one generator.
#[pyclass(frozen, module = "syncline._core")]
pub struct Pinned {
    shared: Arc<Shared>,
    place: Place,
    context: Py<PyAny>,
    thread: u64,
}

#[pymethods]
impl Pinned {
    /// Calls `step` on the loop and waits for the awaitable that it returns. (Async generators must take their steps
    /// there: the first tells the loop, by a hook of the thread's, to finalize them.)
    #[pyo3(signature = (step, /, *args))]
    fn run_sync(&self, py: Python<'_>, step: Py<PyAny>, args: Py<PyTuple>) -> PyResult<Py<PyAny>> {
        let target = Target::Function { function: step, args, kwargs: None };
        if matches!(self.place, Place::Own(_)) && self.thread != thread_key() {
            target.discard(py);
            return Err(PyRuntimeError::new_err(
                "in scope \"caller\" a generator belongs to the thread that made it, whose loop runs it; iterate there",
            ));
        }
        let carried = Carried::of(self.context.bind(py))?;
        let result = match self.shared.execute_at(py, &self.place, target, &carried, None) {
            Ok(result) => result,
            Err(target) => {
                target.discard(py);
                return Err(self.refused(py));
            }
        };
        if self.shared.shares_context {
            carried.write_back(py, false)?;
        }
        result
    }
}

impl Pinned {
    fn refused(&self, py: Python<'_>) -> PyErr {
        match &self.place {
            Place::Runner(runner) if runner.takes_calls() => errors::deadlock(
                py,
                format!(
                    "a generator of the runner {:?} was resumed by sync code that this very runner waits for; iterate \
                     over it with `async for` there",
                    runner.name
                ),
            ),
            _ => errors::closed_meanwhile(py, &self.shared.name),
        }
    }
}
