//! How a thread that drives a loop is made to go on, and how it knows that a return of the loop is of our doing.
//!
//! A stop may come too late: one of another thread, where the driver has found by itself what it was sent for; and each
//! one on a loop like uvloop's, where it takes effect a turn after it was asked for. It is left in the loop then, and a
//! later run, of a later call perhaps, returns at once. Who drives a loop takes a return without a reason for somebody
//! else's `stop()`, which ends the call.
//!
//! Invariants:
//! 1. Whatever of ours has a driven loop return, but not end, does so here, and leaves a mark in that turn after which the
//!    loop returns.

use crate::python::once::intern;
use crate::python::signals;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// The mark (by 1), which a loop may call.
#[pyclass(frozen, module = "syncline._core")]
#[derive(Default)]
struct Mark(AtomicBool);

#[pymethods]
impl Mark {
    fn __call__(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A callback that stops the loop.
#[pyclass(frozen, module = "syncline._core")]
struct Stop {
    event_loop: Py<PyAny>,
    stops: Stops,
}

#[pymethods]
impl Stop {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.stops.stop(self.event_loop.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

/// What of ours stops one loop.
pub struct Stops(Py<Mark>);

impl Stops {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        Py::new(py, Mark::default()).map(Self)
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// Has the loop stop. In its own thread.
    pub fn stop(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if event_loop.hasattr(intern!(py, "finish"))? {
            // One of our own class takes its `stop` for somebody else's. This is all that asyncio's does.
            event_loop.setattr(intern!(py, "_stopping"), true)?;
            self.0.get().__call__();
            return Ok(());
        }
        let stops_already =
            event_loop.getattr_opt(intern!(py, "_stopping"))?.map(|stops| stops.is_truthy()).transpose()?;
        event_loop.call_method0(intern!(py, "stop"))?;
        match stops_already {
            // For somebody else, which must not get lost; or the mark is there.
            Some(true) => {}
            Some(false) => self.0.get().__call__(),
            // The loop runs it in the turn in which it runs the stop: both wait in one queue.
            None => drop(event_loop.call_method1(intern!(py, "call_soon"), (&self.0,))?),
        }
        Ok(())
    }

    /// The same as a callback, for a timer or another thread.
    pub fn callback<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let stop = Stop { event_loop: event_loop.clone().unbind(), stops: self.clone_ref(py) };
        Bound::new(py, stop).map(Bound::into_any)
    }

    /// As `stop`, at a call's end. A loop of our own class (it has a `finish`) first runs the callbacks that are ready by
    /// now.
    pub fn finish(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        let stopped = signals::through(py, || match event_loop.getattr_opt(intern!(py, "finish"))? {
            Some(finish) => finish.call0().map(drop),
            None => self.stop(event_loop),
        });
        if stopped.is_none() {
            // It failed, where Python's stack is used up, say. This is all that asyncio's `stop` does, and here it runs
            // no Python code that could fail again.
            let _ = event_loop.setattr(intern!(py, "_stopping"), true);
        }
    }

    /// Whether one has taken effect since this was last asked: each time that the loop returns.
    pub fn have_come(&self) -> bool {
        self.0.get().0.swap(false, Relaxed)
    }
}
