//! The turns of loops in a trace. asyncio's loops ask their selector once a turn, so for as long as a trace is recorded
//! a loop has one that notes when.
//!
//! A selector that is always there would cost each turn something. Loops that have none of asyncio's kind, such as
//! uvloop's, show no turns.

use crate::python::asyncgen_hooks;
use crate::python::log;
use crate::python::once::intern;
use crate::python::recording;
use crate::python::signals;
use crate::python::tracing;
#[cfg(target_os = "linux")]
use crate::runner::selector::Selector;
use crate::task::revival::revive_lost;
use pyo3::prelude::*;
#[cfg(target_os = "linux")]
use pyo3::types::PyList;
use pyo3::types::PyString;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

struct TurnNotes {
    trace: u64,
    /// When the turn began; 0 if none did.
    since: AtomicU64,
}

impl TurnNotes {
    fn new() -> Self {
        Self { trace: recording::number(), since: AtomicU64::new(0) }
    }

    fn end(&self) {
        let since = self.since.load(Relaxed);
        if since != 0 {
            self.since.store(0, Relaxed);
            tracing::note_turn(self.trace, since);
        }
    }

    /// The loop asks its selector, between two turns.
    fn between<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.end();
        let found = ask();
        self.since.store(tracing::begin_turn(), Relaxed);
        found
    }
}

/// Stands for a loop's selector, and notes the turns.
// No `__traverse__`: a trace that ends takes it away, and a loop that is closed closes `inner`, which then refers to
// nothing.
#[pyclass(frozen, module = "syncline._core")]
pub struct TurnWatcher {
    inner: Py<PyAny>,
    turns: TurnNotes,
}

#[pymethods]
impl TurnWatcher {
    #[pyo3(signature = (timeout=None))]
    fn select(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.turns.between(|| self.inner.call_method1(py, intern!(py, "select"), (timeout,)))
    }

    fn __getattr__(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        self.inner.getattr(py, name)
    }
}

/// The same for a selector of ours. It has each of its methods: the interpreter finds `select` faster in a type without a
/// `__getattr__`.
#[cfg(target_os = "linux")]
#[pyclass(frozen, module = "syncline._core")]
pub struct OwnTurnWatcher {
    inner: Py<Selector>,
    turns: TurnNotes,
}

#[cfg(target_os = "linux")]
#[pymethods]
impl OwnTurnWatcher {
    #[pyo3(signature = (timeout=None))]
    fn select<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.turns.between(|| self.inner.get().select(py, timeout))
    }

    fn register(
        &self,
        py: Python<'_>,
        fileobj: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.inner.get().register(py, fileobj, events, data)
    }

    fn unregister(&self, py: Python<'_>, fileobj: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.inner.get().unregister(py, fileobj)
    }

    fn modify(
        &self,
        py: Python<'_>,
        fileobj: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.inner.get().modify(py, fileobj, events, data)
    }

    fn get_key(&self, py: Python<'_>, fileobj: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.inner.get().get_key(py, fileobj)
    }

    fn get_map(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inner.get().get_map(py)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.get().close(py)
    }
}

/// Has the loop's turns noted, if a trace is recorded and the loop is one of asyncio's kind.
pub fn watch(event_loop: &Bound<'_, PyAny>) {
    if !recording::is_on() {
        return;
    }
    let py = event_loop.py();
    signals::through(py, || {
        let Some(selector) = event_loop.getattr_opt(intern!(py, "_selector"))?.filter(|found| !found.is_none()) else {
            return Ok(());
        };
        event_loop.setattr(intern!(py, "_selector"), watched(&unwatched(selector))?)
    });
}

/// The loop stops turning for now, and its thread goes on with something else: so its last turn is over.
fn end_turn(event_loop: &Bound<'_, PyAny>) {
    if !recording::is_on() {
        return;
    }
    let py = event_loop.py();
    signals::through(py, || {
        if let Some(selector) = event_loop.getattr_opt(intern!(py, "_selector"))?
            && let Some((turns, _)) = watcher(&selector)
        {
            turns.end();
        }
        Ok(())
    });
}

/// Turns the loop until it is stopped. What background tasks and callbacks raise is logged; false where such an error has
/// broken it off. If it had been told to stop in that turn, it has forgotten that, so whoever drives it has to look.
pub fn turn(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let ran = event_loop.call_method0(intern!(py, "run_forever"));
    end_turn(event_loop);
    let Err(error) = ran else { return Ok(true) };
    if signals::concerns_driver(py, &error) {
        signals::through(py, || asyncgen_hooks::take_back(event_loop));
        revive_lost(event_loop);
        return Err(error);
    }
    log::log(py, "error", "a background task or callback raised this, and the loop goes on", Some(&error));
    Ok(false)
}

/// Gives the loop its own selector back.
pub fn leave(event_loop: &Bound<'_, PyAny>) {
    let py = event_loop.py();
    signals::through(py, || match event_loop.getattr_opt(intern!(py, "_selector"))? {
        Some(selector) if watcher(&selector).is_some() => {
            event_loop.setattr(intern!(py, "_selector"), unwatched(selector))
        }
        _ => Ok(()),
    });
}

/// What notes the turns for this selector.
fn watched<'py>(selector: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, turns) = (selector.py(), TurnNotes::new());
    #[cfg(target_os = "linux")]
    if let Ok(own) = selector.cast::<Selector>() {
        return Ok(Bound::new(py, OwnTurnWatcher { inner: own.clone().unbind(), turns })?.into_any());
    }
    Ok(Bound::new(py, TurnWatcher { inner: selector.clone().unbind(), turns })?.into_any())
}

/// Its turns, and for which selector it stands, if this one notes turns.
fn watcher<'a, 'py>(selector: &'a Bound<'py, PyAny>) -> Option<(&'a TurnNotes, &'a Bound<'py, PyAny>)> {
    let py = selector.py();
    #[cfg(target_os = "linux")]
    if let Ok(watcher) = selector.cast::<OwnTurnWatcher>() {
        return Some((&watcher.get().turns, watcher.get().inner.bind(py).as_any()));
    }
    let watcher = selector.cast::<TurnWatcher>().ok()?.get();
    Some((&watcher.turns, watcher.inner.bind(py)))
}

fn unwatched(selector: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    watcher(&selector).map_or_else(|| selector.clone(), |(_, inner)| inner.clone())
}
