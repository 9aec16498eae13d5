//! What `_visible.py` needs to drive a coroutine of ours, or of the user's in a strand, from a native one: the
//! interpreter's tools see native coroutines only.
//!
//! Invariants:
//! 1. What the task sends or throws gets to the coroutine as it is, and leaves no frame in an error's traceback: the
//!    native coroutine is resumed here without an error, and has the coroutine make its next step by itself.

use super::copies::copies;
use crate::coroutine::driven::{self, Thrown};
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::version;
use crate::switch::kinds;
use crate::switch::parked::LayerView;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyType};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock, replace, take};

#[pyclass(frozen, module = "syncline._core")]
pub struct Steps {
    #[pyo3(get)]
    coroutine: Py<PyAny>,
    /// What the task is to wait for, until it has been told.
    awaited: Mutex<Option<Py<PyAny>>>,
    /// What is to be thrown at the next step.
    thrown: Mutex<Option<Py<PyAny>>>,
    result: Mutex<Option<Py<PyAny>>>,
    is_over: AtomicBool,
}

impl Steps {
    pub fn of(coroutine: Py<PyAny>) -> Self {
        Self {
            coroutine,
            awaited: Mutex::new(None),
            thrown: Mutex::new(None),
            result: Mutex::new(None),
            is_over: AtomicBool::new(false),
        }
    }

    fn over(&self) {
        self.is_over.store(true, Relaxed);
    }
}

#[pymethods]
impl Steps {
    /// `has_begun`: whoever makes the native coroutine has it take one step before there is a task, in which it comes
    /// to await this; `coroutine` makes no step then.
    #[new]
    #[pyo3(signature = (coroutine, *, has_begun))]
    fn new(py: Python<'_>, coroutine: Py<PyAny>, has_begun: bool) -> Self {
        Self { awaited: Mutex::new(has_begun.then(|| py.None())), ..Self::of(coroutine) }
    }

    /// Has the coroutine make a step. False at its end; then `result` is what it returned. It raises what ends it.
    fn make(&self, py: Python<'_>) -> PyResult<bool> {
        if lock(&self.awaited).is_some() {
            return Ok(true); // The task was not told yet: a signal handler's exception came in between (`pass_on`).
        }
        let coroutine = self.coroutine.bind(py);
        let stepped = match take(&self.thrown) {
            Some(error) => driven::throw(coroutine, Thrown::new(error.bind(py), None, None)),
            None => driven::send(coroutine, py.None().bind(py)),
        };
        match stepped.inspect_err(|_| self.over())? {
            PySendResult::Next(awaited) => {
                drop(replace(&self.awaited, Some(awaited.unbind())));
                Ok(true)
            }
            PySendResult::Return(value) => {
                drop(replace(&self.result, Some(value.unbind())));
                self.over();
                Ok(false)
            }
        }
    }

    /// Whether the coroutine has ended.
    #[getter]
    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// What it has returned, once.
    #[getter]
    fn result(&self) -> Option<Py<PyAny>> {
        take(&self.result)
    }

    /// What the task is to await until the next step: copies of the frames that are suspended, and below them this.
    fn copies<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let layers = layers_of(slf.get().coroutine.bind(slf.py()));
        copies(layers, slf.clone().into_any())
    }

    /// The task that waits for this one, if that is known.
    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let coroutine = self.coroutine.bind(py);
        kinds::of(coroutine).and_then(|kind| (kind.waiter)(coroutine))
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        take(&self.awaited)
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        self.__next__().ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// By 1: ends what awaits this, and has the next step throw the error.
    #[pyo3(signature = (error, _value=None, _traceback=None))]
    fn throw(
        &self,
        error: &Bound<'_, PyAny>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.give(error)?;
        Err(PyStopIteration::new_err(()))
    }

    /// For an error that came up between two steps: whether it is a signal handler's. That is for whoever drives the
    /// loop, who has it raised once the task has done what it is about to. The coroutine would end by it, and what it
    /// waits for would be left to clean up alone.
    fn pass_on(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
        let error = PyErr::from_value(error.clone());
        let is_handlers = signals::are_handlers(py, &error);
        if is_handlers {
            let _ = signals::keep(py, error);
            signals::pass_on_outside(py);
        }
        is_handlers
    }

    /// Has the next step throw the error.
    fn give(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = if error.is_instance_of::<PyType>() { error.call0()? } else { error.clone() };
        drop(take(&self.awaited));
        drop(replace(&self.thrown, Some(error.unbind())));
        Ok(())
    }
}

/// The name of what a coroutine runs, if it has one.
#[pyfunction]
pub fn name_of(coroutine: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    match kinds::of(coroutine) {
        Some(kind) => (kind.name)(coroutine),
        None => coroutine.getattr(intern!(coroutine.py(), "__qualname__")).ok().map(Bound::unbind),
    }
}

/// What a coroutine consists of; as `Strand::layers`.
#[pyfunction]
pub fn layers_of(coroutine: &Bound<'_, PyAny>) -> Vec<LayerView> {
    match kinds::of(coroutine) {
        Some(kind) => (kind.layers)(coroutine),
        None => vec![(Some(coroutine.clone().unbind()), None, None)],
    }
}

/// Makes the task of a call, or of a session, as tools are to see it.
#[cold]
pub fn make_task<'py>(coroutine: &Bound<'py, PyAny>, options: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let py = coroutine.py();
    if let Some(name) = name_of(coroutine) {
        options.set_item(intern!(py, "name"), name)?;
    }
    let shown_task = names::shown_task(py)?;
    if version::minor() < 14 {
        return shown_task.call((coroutine,), Some(options));
    }
    let steps = Bound::new(py, Steps::of(coroutine.clone().unbind()))?;
    shown_task.call((names::syncline_task(py)?.call1((steps,))?,), Some(options))
}
