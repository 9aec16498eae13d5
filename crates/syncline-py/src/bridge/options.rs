//! The class `Bridge` that users see. It checks its options; its methods leave the work to placement.rs and
//! execution.rs.

use super::choices::{Flag, Word, check_trio, choose, name_given};
use super::observing;
use super::shared::{ANY_BRINGS_HOME, Hold, InAsync, InLoop, Loops, Scope, Shared};
use super::submitted::Submitted;
use crate::call::outcome::HAS_TRIO;
use crate::call::wait::{Seconds, limit, number, seconds};
use crate::coroutine::refused;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::signals;
use crate::python::surroundings::{Anchor, Backend, LOOK_AROUND, LOOK_AT_TASK};
use crate::python::threads::next_id;
use crate::runner::arrival::Arrival;
use crate::runner::key::RunnerKey;
use crate::runner::state::{Job, Plan, Runner};
use crate::switch::greenlets;
use crate::switch::nest::{self, Driving, Terms};
use crate::task::loops;
use crate::worker::inbox;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nested {
    /// As `Switch` where greenlet is there, else as `Thread`.
    Auto,
    Switch,
    Thread,
    Error,
}

/// Whether bridges are visible that do not say so: the environment decides, or else whether Python runs in its
/// development mode. Late in the interpreter's end that can't be told any more, and nobody looks.
fn is_visible_by_default(py: Python<'_>) -> bool {
    let is_in_dev_mode = || py.import("sys")?.getattr("flags")?.getattr("dev_mode")?.is_truthy();
    match std::env::var("SYNCLINE_VISIBLE") {
        Ok(value) => value != "0" && !value.is_empty(),
        Err(_) => is_in_dev_mode().unwrap_or(false),
    }
}

/// A loop that somebody else runs, as `loop=` gave it.
struct Onto<'py> {
    event_loop: Bound<'py, PyAny>,
    anchor: Anchor,
}

impl<'py> Onto<'py> {
    fn resolve(given: &Bound<'py, PyAny>) -> PyResult<Self> {
        let resolve = given.py().import("syncline._onto")?.getattr("resolve")?;
        let (in_trio, event_loop, anchor): (bool, Bound<'py, PyAny>, Py<PyAny>) =
            resolve.call1((given,)).map_err(|error| errors::without_frames(given.py(), error))?.extract()?;
        HAS_TRIO.fetch_or(in_trio, Relaxed);
        let backend = if in_trio { Backend::Trio } else { Backend::Asyncio };
        Ok(Self { event_loop, anchor: Anchor { object: anchor, backend } })
    }
}

/// Has the runner told when its loop is closed.
fn hear_of_its_end(py: Python<'_>, runner: &Arc<Runner>, backend: Backend) {
    let known = Arc::downgrade(runner);
    let ask = move |py: Python<'_>| -> PyResult<()> {
        let known: Weak<dyn Arrival> = known;
        inbox::here(py, backend == Backend::Trio)?.tell_of_end(known);
        Ok(())
    };
    // If it takes no mail, the loop is gone already.
    let _ = runner.post(py, Job::Do(Box::new(ask)));
}

/// The bridge without its decorators; `syncline.Bridge` adds them.
#[pyclass(frozen, subclass, module = "syncline._core")]
pub struct Bridge {
    hold: Arc<Hold>,
    /// Whether its calls stay on the bridge's loops, though the bridge roams.
    stays_home: bool,
}

impl Bridge {
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.used())
    }

    /// The same without a reference of its own.
    fn used(&self) -> &Arc<Shared> {
        if self.stays_home { self.hold.home() } else { self.hold.shared() }
    }

    /// What a task of any loop awaits to have the target run on the bridge's loop.
    pub fn run_async(&self, py: Python<'_>, target: Target) -> PyResult<Py<PyAny>> {
        self.used().run_async(py, &self.hold, target)
    }

    /// What it works with, for reports. To look does not count as a use.
    pub fn look(&self) -> Arc<Shared> {
        self.hold.look()
    }

    /// `caller` is the name of the public function, for messages.
    fn run_function(
        &self,
        caller: &'static str,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = function.py();
        // First of all, so that no loop is started for a call that can't be made.
        refused::uncallable(caller, function)?;
        let shared = self.used();
        if !shared.is_plain() {
            shared.refuse_if_closed(py)?;
            let target = Target::from_function(caller, function, args, kwargs)?;
            return shared.observed(function, target, || shared.place_within(py, None));
        }
        if let Some(strand) = nest::strand_for(py, &shared.terms) {
            return nest::run_function(&shared.terms, &strand, caller, function, args, kwargs);
        }
        let patience = shared.patience(None);
        let place = shared.place_elsewhere(py, patience)?;
        let target = Target::from_function(caller, function, args, kwargs)?;
        shared.execute(py, place, target, patience)
    }

    fn run_awaitable(
        &self,
        awaitable: &Bound<'_, PyAny>,
        more: &Bound<'_, PyTuple>,
        timeout: Option<&Seconds<'_>>,
    ) -> PyResult<Py<PyAny>> {
        let py = awaitable.py();
        let target = Target::from_awaitable(awaitable)?;
        if !more.is_empty() {
            return Err(refused::more_than_one(awaitable, more)?);
        }
        let (target, timeout) = target.with(py, number("timeout", timeout))?;
        self.used().run(py, target, timeout)
    }
}

#[pymethods]
impl Bridge {
    #[expect(clippy::too_many_arguments, reason = "each is a keyword argument of Python's constructor")]
    #[new]
    #[pyo3(signature = (*, scope=Word::Default("process"), nested=None, context=Word::Default("share"), loop_factory=None, name=None, cleanup_timeout=Seconds::Default(5.0), stall_after=None, backend=Word::Default("asyncio"), in_worker=Word::Default("own"), roams=Flag::Default(false), r#loop=None, in_loop=Word::Default("block"), in_async=Word::Default("task"), timed=Flag::Default(false), visible=None, _home_of=None), text_signature = "(*, scope='process', nested=None, context='share', loop_factory=None, name=None, cleanup_timeout=5.0, stall_after=None, backend='asyncio', in_worker='own', roams=False, loop=None, in_loop='block', in_async='task', timed=False, visible=None)")]
    fn new(
        py: Python<'_>,
        scope: Word<'_>,
        nested: Option<Word<'_>>,
        context: Word<'_>,
        loop_factory: Option<Bound<'_, PyAny>>,
        name: Option<Word<'_>>,
        cleanup_timeout: Seconds<'_>,
        stall_after: Option<Seconds<'_>>,
        backend: Word<'_>,
        in_worker: Word<'_>,
        roams: Flag<'_>,
        r#loop: Option<Bound<'_, PyAny>>,
        in_loop: Word<'_>,
        in_async: Word<'_>,
        timed: Flag<'_>,
        visible: Option<Flag<'_>>,
        _home_of: Option<Bound<'_, Self>>,
    ) -> PyResult<Self> {
        if let Some(roaming) = _home_of {
            return Ok(Self { hold: Arc::clone(&roaming.get().hold), stays_home: true });
        }
        let (roams, timed) = (roams.get("roams")?, timed.get("timed")?);
        let visible = visible.map(|visible| visible.get("visible")).transpose()?;
        let backend = choose("backend", &backend, &[("asyncio", Backend::Asyncio), ("trio", Backend::Trio)])?;
        if let Some(factory) = loop_factory.as_ref().filter(|factory| !factory.is_callable()) {
            if factory.hasattr("run_forever")? {
                return Err(PyTypeError::new_err(
                    "loop_factory must be a function that returns a new event loop, and this is a loop; for one that \
                     somebody runs: Bridge(loop=...)",
                ));
            }
            let kind = errors::type_name(factory);
            return Err(PyTypeError::new_err(format!(
                "loop_factory must be a function that returns a new event loop, such as uvloop.new_event_loop, not {kind}"
            )));
        }
        let onto = r#loop.as_ref().map(Onto::resolve).transpose()?;
        if onto.is_some() && (loop_factory.is_some() || scope.text() != Some("process") || backend == Backend::Trio) {
            return Err(PyTypeError::new_err(
                "loop= is a loop that somebody else runs, so scope, loop_factory and backend say nothing about it; leave \
                 them out",
            ));
        }
        let backend = onto.as_ref().map_or(backend, |onto| onto.anchor.backend);
        if backend == Backend::Trio && onto.is_none() {
            check_trio(py, &scope, loop_factory.is_some())?;
        }
        let modes = [("switch", Nested::Switch), ("thread", Nested::Thread), ("error", Nested::Error)];
        let nested = match nested {
            Some(word) => choose("nested", &word, &modes)?,
            None => Nested::Auto,
        };
        if nested == Nested::Switch {
            greenlets::load(py).map_err(|error| greenlets::missing(py, error))?;
        }
        let name = name_given(name.as_ref())?;
        let cleanup = limit("cleanup_timeout", &cleanup_timeout)?;
        let switches = matches!(nested, Nested::Switch | Nested::Auto);
        let bridge = next_id();
        let is_visible = match (backend, visible) {
            (Backend::Asyncio, None) => is_visible_by_default(py),
            (Backend::Trio, Some(true)) => {
                return Err(PyValueError::new_err(
                    "visible=True is for asyncio, whose tasks the interpreter's tools show; they know nothing of trio's",
                ));
            }
            (_, visible) => visible == Some(true),
        };
        if is_visible {
            LOOK_AROUND.ask_for();
            LOOK_AT_TASK.ask_for();
        }
        let stall_after = seconds("stall_after", number("stall_after", stall_after.as_ref())?)?;
        let (attached, onto) = match onto {
            Some(onto) => {
                let plan = Plan {
                    name: name.clone(),
                    key: RunnerKey::Level(0),
                    bridge_id: bridge,
                    cleanup,
                    loop_factory: None,
                    backend,
                    switches: switches && greenlets::are_there(py)?,
                    is_visible,
                    stall_after,
                };
                if is_visible {
                    loops::show(&onto.event_loop)?;
                }
                let runner = Runner::attach(py, &plan, onto.event_loop, &onto.anchor)?;
                hear_of_its_end(py, &runner, backend);
                (Some(runner), Some(Arc::new(onto.anchor)))
            }
            None => (None, None),
        };
        let in_loops = [("block", InLoop::Block), ("warn", InLoop::Warn), ("error", InLoop::Error)];
        let in_asyncs = [("task", InAsync::Task), ("home", InAsync::Home)];
        let in_async = choose("in_async", &in_async, &in_asyncs)?;
        ANY_BRINGS_HOME.fetch_or(in_async == InAsync::Home, Relaxed);
        let scopes = [("process", Scope::Process), ("thread", Scope::Thread), ("caller", Scope::Caller)];
        let shared = Arc::new(Shared {
            terms: Terms {
                bridge,
                backend,
                switches,
                onto,
                roams,
                shares_context: choose("context", &context, &[("share", true), ("copy", false)])?,
                stats: Arc::default(),
            },
            name,
            scope: choose("scope", &scope, &scopes)?,
            nested_is_error: nested == Nested::Error,
            in_loop: choose("in_loop", &in_loop, &in_loops)?,
            in_async,
            joins_sender: choose("in_worker", &in_worker, &[("own", false), ("sender", true)])?,
            is_visible,
            loop_factory: loop_factory.map(Bound::unbind).map(Arc::new),
            attached,
            cleanup,
            stall_after,
            loops: Arc::new(Loops::new(timed)),
        });
        observing::remember(&shared);
        Ok(Self { hold: Arc::new(Hold::new(shared)), stays_home: false })
    }

    /// Calls the async function `fn` with these arguments, and waits for its result.
    ///
    ///     page = syncline.run_sync(client.get, url)
    ///
    /// Works in any thread, inside and outside of a running event loop. For a limit of the wait itself, or for
    /// something that can be awaited already: `run(fn(...), timeout=seconds)`.
    ///
    /// Raises what `fn` raises, as the same object; TypeError for a function that isn't async; RunnerClosedError where
    /// the loop or the bridge ends before the call does; DeadlockError where the wait could never end.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn run_sync(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        signals::ended_or_refused(r#fn.py(), self.run_function("run_sync", r#fn, args, kwargs))
    }

    /// The same for what `synced` made.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn _run_synced(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        signals::ended_or_refused(r#fn.py(), self.run_function("synced", r#fn, args, kwargs))
    }

    /// The same for `run_in_new_loop`.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn _run_alone(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        signals::ended_or_refused(r#fn.py(), self.run_function("run_in_new_loop", r#fn, args, kwargs))
    }

    /// Waits for the result of `awaitable`, for at most `timeout` seconds (None: without a limit).
    ///
    ///     page = syncline.run(client.get(url), timeout=5)
    ///
    /// At the end of its time the awaitable is cancelled, cleans up, and TimeoutError is raised. Otherwise as
    /// `run_sync`.
    #[pyo3(signature = (awaitable, *more, timeout=None), text_signature = "($self, awaitable, *, timeout=None)")]
    fn run(
        &self,
        py: Python<'_>,
        awaitable: &Bound<'_, PyAny>,
        more: &Bound<'_, PyTuple>,
        timeout: Option<Seconds<'_>>,
    ) -> PyResult<Py<PyAny>> {
        signals::ended_or_refused(py, self.run_awaitable(awaitable, more, timeout.as_ref()))
    }

    /// Calls the sync function (or class) `fn` on the bridge's loop, and returns what it returns.
    ///
    ///     session = bridge.call(aiohttp.ClientSession)
    ///
    /// For code that needs the loop and does not wait for anything: constructors, `event.set`, `task.cancel`. It blocks
    /// the loop while it runs. On the loop's own thread it is called at once.
    ///
    /// Raises what `fn` raises; TypeError for an async function; otherwise as `run_sync`.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn call(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        signals::ended_or_refused(r#fn.py(), self.used().call_plain(r#fn, args, kwargs))
    }

    /// As `run`, for what is on the bridge's loop: in a worker thread, too, it is not run on the loop that sent that.
    fn _run_at_home(&self, py: Python<'_>, awaitable: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let run = |target| self.hold.shared().run_at_home(py, target, timeout);
        signals::ended_or_refused(py, Target::from_awaitable(awaitable).and_then(run))
    }

    fn _is_cold(&self, py: Python<'_>) -> bool {
        self.hold.shared().is_cold(py)
    }

    /// Starts the runner that calls of `run_async` need.
    fn _warm_up(&self, py: Python<'_>) -> PyResult<()> {
        self.hold.shared().runner_for_others(py).map(drop)
    }

    fn _run_async(
        &self,
        py: Python<'_>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let target = Target::from_function("run_async", r#fn, args, kwargs);
        signals::ended_or_refused(py, target.and_then(|target| self.run_async(py, target)))
    }

    fn _submit(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<Submitted>> {
        let target = Target::from_function("submit", r#fn, args, kwargs);
        signals::ended_or_refused(py, target.and_then(|target| self.used().submit(py, &self.hold, target, &future)))
    }

    /// Takes the options of another bridge, which nobody uses. Raises RuntimeError if this one has been used.
    fn _configure(&self, other: &Self) -> PyResult<()> {
        self.hold.plan(other.hold.look()).map_err(|_| {
            PyRuntimeError::new_err(
                "configure() came after the default bridge's first use, and changes nothing any more; call it at the \
                 program's start, or make a Bridge(...) of your own",
            )
        })
    }

    /// Cancels what runs, closes the loops and ends their threads. Calls that run or come later raise
    /// RunnerClosedError.
    ///
    /// Takes twice the cleanup time and a second at most: what blocks a loop for longer is left behind and logged, and
    /// its callers are freed after the cleanup time. In scope "caller", a loop of another thread that is at rest is
    /// closed by that thread, at its next call on the bridge or at its end.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.used().close(py)
    }

    /// Counters of this bridge, read at about the same time; see `BridgeStats`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.hold.look();
        let runners = if shared.is_closed() { Vec::new() } else { shared.registry().alive() };
        let spins = runners.iter().flat_map(|runner| [runner.caller_spin.counts(), runner.loop_spin.counts()]);
        let (won, lost) = spins.fold((0, 0), |(won, lost), (w, l)| (won + w, lost + l));
        let stats = PyDict::new(py);
        let own_loops = shared.loops.own.alive().iter().filter(|own| own.is_open()).count();
        let runners = runners.into_iter().chain(shared.attached.clone()).collect::<Vec<_>>();
        stats.set_item("runners", runners.iter().filter(|runner| !runner.has_ended()).count() + own_loops)?;
        stats.set_item("calls", shared.terms.stats.calls.get())?;
        stats.set_item("active", shared.terms.stats.calls.get().saturating_sub(shared.terms.stats.ended.get()))?;
        stats.set_item("nested", shared.terms.stats.nested.get())?;
        stats.set_item("wakes", shared.terms.stats.wakes.get())?;
        stats.set_item("spins_won", won)?;
        stats.set_item("spins_lost", lost)?;
        stats.set_item("hops", shared.loops.hops.iter().flat_map(|hops| hops.buckets()).collect::<Vec<_>>())?;
        Ok(stats)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.used().close(py)
    }

    /// There is no `__clear__`: a ring of references through here also goes through other objects of the factory, where
    /// the collector can open it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A call or an iterator may keep the factory as well. The collector must not take it for this object's alone
        // then.
        let shared = self.hold.look();
        let ours = self.hold.references() + 1;
        let is_ours_alone = Arc::strong_count(&self.hold) == 1 && Arc::strong_count(&shared) == ours;
        match &shared.loop_factory {
            Some(factory) if is_ours_alone => visit.call(&**factory),
            _ => Ok(()),
        }
    }

    /// The name, as threads and messages have it.
    #[getter]
    fn name(&self) -> String {
        self.hold.look().name.clone()
    }

    /// Which loop gets a call: "process", "thread" or "caller".
    #[getter]
    fn scope(&self) -> &'static str {
        match self.hold.look().scope {
            Scope::Process => "process",
            Scope::Thread => "thread",
            Scope::Caller => "caller",
        }
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.hold.look().is_closed()
    }

    #[getter]
    fn _shares_context(&self) -> bool {
        self.hold.look().terms.shares_context
    }

    /// Whether one of its loops runs in this thread just now.
    fn _drives_here(&self, py: Python<'_>) -> bool {
        let terms = &self.used().terms;
        matches!(nest::driving(), Driving::Ours { bridge, .. } if bridge == terms.bridge) || terms.is_onto_this(py)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<syncline.Bridge {:?}, scope {:?}{closed}>", self.name(), self.scope())
    }
}
