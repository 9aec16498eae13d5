//! What a task, or a nested call, drives: begun at its first step, then one step after another.
//!
//! All our code that drives a coroutine by hand, without `await`, does it by `step`, `send` or `throw` of this file.

use crate::coroutine::target::Target;
use crate::python::once::intern;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::types::iterator::PySendResult;
use std::sync::OnceLock;
use syncline_core::sync::{Mutex, lock};

pub struct Driven {
    /// What is driven, once it has begun.
    inner: OnceLock<Py<PyAny>>,
    /// What is to begin, until then.
    target: Mutex<Option<Target>>,
}

/// An error as a coroutine's `throw` takes it: an exception, or a type with a value and a traceback.
pub struct Thrown {
    kind: Py<PyAny>,
    rest: Option<ValueAndTraceback>,
}

type ValueAndTraceback = (Option<Py<PyAny>>, Option<Py<PyAny>>);

impl Thrown {
    pub fn new(
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> Self {
        let owned = |object: Option<&Bound<'_, PyAny>>| object.map(|object| object.clone().unbind());
        let rest = (value.is_some() || traceback.is_some()).then(|| (owned(value), owned(traceback)));
        Self { kind: kind.clone().unbind(), rest }
    }

    pub fn of(py: Python<'_>, error: PyErr) -> Self {
        Self { kind: error.into_value(py).into_any(), rest: None }
    }
}

/// What a task is given for its next step. (asyncio sends nothing. trio sends a value: the result of what the task
/// has asked trio for.)
#[derive(Clone, Copy)]
pub enum Input<'a, 'py> {
    Nothing,
    Sent(&'a Bound<'py, PyAny>),
    Thrown(&'a Bound<'py, PyAny>),
}

impl Driven {
    pub fn new(target: Target) -> Self {
        match target {
            Target::Coroutine(coroutine) => Self { inner: OnceLock::from(coroutine), target: Mutex::new(None) },
            other => Self { inner: OnceLock::new(), target: Mutex::new(Some(other)) },
        }
    }

    pub fn inner<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.inner.get().map(|inner| inner.bind(py))
    }

    /// The name of what it drives, or is to drive; `None` if that has none.
    pub fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let named = match self.inner(py) {
            Some(inner) => inner.clone(),
            None => lock(&self.target).as_ref()?.object(py).clone(),
        };
        named.getattr_opt(intern!(py, "__qualname__")).ok().flatten().map(Bound::unbind)
    }

    pub fn begin<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        if let Some(inner) = self.inner(py) {
            return Ok(inner);
        }
        let target = lock(&self.target).take();
        let target = target.ok_or_else(|| PyRuntimeError::new_err("cannot reuse already awaited coroutine"))?;
        let inner = target.begin(py)?;
        Ok(self.inner.get_or_init(|| inner).bind(py))
    }

    /// The target that is to begin is not shown to the collector: it is there for a moment only.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.get().map_or(Ok(()), |inner| visit.call(inner))
    }

    /// Gives up what has not begun.
    pub fn discard(&self, py: Python<'_>) {
        let target = lock(&self.target).take();
        if let Some(target) = target {
            target.discard(py);
        }
    }

    pub fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<PySendResult<'py>> {
        send(self.begin(value.py())?, value)
    }

    pub fn throw<'py>(&self, py: Python<'py>, thrown: Thrown) -> PyResult<PySendResult<'py>> {
        throw(self.begin(py)?, thrown)
    }
}

/// One step, with what the task around it was given for this step.
pub fn step<'py>(inner: &Bound<'py, PyAny>, input: Input<'_, 'py>) -> PyResult<PySendResult<'py>> {
    match input {
        Input::Thrown(error) => throw(inner, Thrown::new(error, None, None)),
        Input::Sent(value) => send(inner, value),
        Input::Nothing => send(inner, inner.py().None().bind(inner.py())),
    }
}

pub fn send<'py>(inner: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<PySendResult<'py>> {
    // SAFETY: `send` only hands its object to `PyIter_Send`, which takes coroutines as well as iterators.
    let inner = unsafe { inner.cast_unchecked::<PyIterator>() };
    inner.send(value)
}

pub fn throw<'py>(inner: &Bound<'py, PyAny>, thrown: Thrown) -> PyResult<PySendResult<'py>> {
    let py = inner.py();
    let stepped = match thrown.rest {
        // `throw` with several arguments is deprecated in Python. Tasks give it one.
        None => inner.call_method1(intern!(py, "throw"), (thrown.kind,)),
        Some((value, traceback)) => inner.call_method1(intern!(py, "throw"), (thrown.kind, value, traceback)),
    };
    match stepped {
        Ok(awaited) => Ok(PySendResult::Next(awaited)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            error.value(py).getattr(intern!(py, "value")).map(PySendResult::Return)
        }
        Err(error) => Err(error),
    }
}
