//! The turns of loops in a trace. asyncio's loops ask their selector once a turn, so for as long as a trace is recorded
//! a loop has one that notes when.
//!
//! A selector that is always there would cost each turn something. Loops that have none of asyncio's kind, such as
//! uvloop's, show no turns.

use crate::python::once::intern;
use crate::python::signals;
use crate::python::tracing::{self, Kind};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Stands for a loop's selector, and notes the turns.
// No `__traverse__`: a trace that ends takes it away, and a loop that is closed closes `inner`, which then refers to
// nothing.
#[pyclass(frozen, module = "syncline._core")]
pub struct TurnWatcher {
    inner: Py<PyAny>,
    trace: u64,
    /// When the turn began; 0 if none did.
    since: AtomicU64,
}

#[pymethods]
impl TurnWatcher {
    #[pyo3(signature = (timeout=None))]
    fn select(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let since = self.since.swap(0, Relaxed);
        if since != 0 {
            let took = tracing::now().saturating_sub(since);
            tracing::note_at(self.trace, Kind::Turn, took, 0, 0, Some(since));
        }
        let found = self.inner.call_method1(py, intern!(py, "select"), (timeout,));
        self.since.store(tracing::now(), Relaxed);
        found
    }

    fn __getattr__(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        self.inner.getattr(py, name)
    }
}

/// Has the loop's turns noted, if a trace is recorded and the loop is one of asyncio's kind.
pub fn watch(event_loop: &Bound<'_, PyAny>) {
    if !tracing::is_on() {
        return;
    }
    let py = event_loop.py();
    signals::through(py, || {
        let Some(selector) = event_loop.getattr_opt(intern!(py, "_selector"))?.filter(|found| !found.is_none()) else {
            return Ok(());
        };
        let inner = unwatched(selector).unbind();
        let watcher = TurnWatcher { inner, trace: tracing::number(), since: AtomicU64::new(0) };
        event_loop.setattr(intern!(py, "_selector"), Bound::new(py, watcher)?)
    });
}

/// Gives the loop its own selector back.
pub fn leave(event_loop: &Bound<'_, PyAny>) {
    let py = event_loop.py();
    signals::through(py, || match event_loop.getattr_opt(intern!(py, "_selector"))? {
        Some(selector) if selector.is_instance_of::<TurnWatcher>() => {
            event_loop.setattr(intern!(py, "_selector"), unwatched(selector))
        }
        _ => Ok(()),
    });
}

fn unwatched(selector: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    match selector.cast::<TurnWatcher>() {
        Ok(watcher) => watcher.get().inner.bind(selector.py()).clone(),
        Err(_) => selector,
    }
}
