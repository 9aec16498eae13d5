//! The coroutine that a loop's task sees: it drives the user's, and knows its end in the very step in which it ends.
//!
//! A done callback on the task would run one loop iteration later, and would let `SystemExit` tear the loop down.
//!
//! Invariants:
//! 1. Every end of the user's coroutine settles the call, exactly once, before the task learns of it.
//! 2. The task never sees an exception but `CancelledError`, which marks it cancelled; the caller gets the others.

use crate::call::{Call, Outcome};
use crate::errors;
use crate::names;
use crate::target::Target;
use crate::wait;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::types::iterator::PySendResult;
use std::sync::{Arc, OnceLock};
use syncline_core::sync::{Mutex, lock};

/// The coroutine of one call through the bridge. It looks like the one it drives: name, code and frame are that one's.
#[pyclass(frozen, module = "syncline._core")]
pub struct BridgedCoroutine {
    call: Arc<Call>,
    /// What is driven, once it has begun.
    inner: OnceLock<Py<PyAny>>,
    /// What is to begin, until then.
    target: Mutex<Option<Target>>,
    /// What the task was told to wait for: a wrong loop is explained by it.
    awaited: Mutex<Option<Py<PyAny>>>,
}

impl BridgedCoroutine {
    pub fn new(call: Arc<Call>, target: Target) -> Self {
        let (inner, target) = match target {
            Target::Coroutine(coroutine) => (OnceLock::from(coroutine), None),
            other => (OnceLock::new(), Some(other)),
        };
        Self { call, inner, target: Mutex::new(target), awaited: Mutex::new(None) }
    }

    fn inner<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.inner.get().map(|inner| inner.bind(py))
    }

    fn begin<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        if let Some(inner) = self.inner(py) {
            return Ok(inner);
        }
        let target = lock(&self.target).take();
        let target = target.ok_or_else(|| PyRuntimeError::new_err("cannot reuse already awaited coroutine"))?;
        let inner = target.begin(py)?;
        Ok(self.inner.get_or_init(|| inner).bind(py))
    }

    fn step(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let stepped = wait::stepping(&self.call, || {
            let inner = self.begin(py)?;
            // SAFETY: `send` only hands its object to `PyIter_Send`, which takes coroutines as well as iterators.
            let inner = unsafe { inner.cast_unchecked::<PyIterator>() };
            inner.send(value)
        });
        match stepped {
            Ok(PySendResult::Next(awaited)) => Ok(Some(self.suspend(awaited))),
            Ok(PySendResult::Return(value)) => self.end(py, Outcome::Returned(value.unbind())),
            Err(error) => self.end(py, Outcome::Raised(error)),
        }
    }

    fn suspend(&self, awaited: Bound<'_, PyAny>) -> Py<PyAny> {
        *lock(&self.awaited) = Some(awaited.clone().unbind());
        awaited.unbind()
    }

    /// By 1 and 2.
    fn end(&self, py: Python<'_>, outcome: Outcome) -> PyResult<Option<Py<PyAny>>> {
        drop(lock(&self.awaited).take());
        let cancelled = match &outcome {
            Outcome::Raised(error) if error.is_instance(py, names::cancelled_error(py)?) => Some(error.clone_ref(py)),
            _ => None,
        };
        self.call.settle(py, outcome);
        cancelled.map_or(Ok(None), Err)
    }
}

#[pymethods]
impl BridgedCoroutine {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py, py.None().bind(py))
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, value)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let awaited = lock(&self.awaited).take();
        explain_wrong_loop(kind, awaited.as_ref().map(|awaited| awaited.bind(py)));
        let stepped = match self.inner(py) {
            // `throw` with several arguments is deprecated; the task gives one.
            Some(inner) => wait::stepping(&self.call, || match (value, traceback) {
                (None, None) => inner.call_method1(intern!(py, "throw"), (kind,)),
                _ => inner.call_method1(intern!(py, "throw"), (kind, value, traceback)),
            }),
            // Cancelled before its first step: what never began is never called.
            None => {
                if let Some(target) = lock(&self.target).take() {
                    target.discard(py);
                }
                Err(PyErr::from_value(kind.clone()))
            }
        };
        let ended = match stepped {
            Ok(awaited) => return Ok(self.suspend(awaited)),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                self.end(py, Outcome::Returned(error.value(py).getattr(intern!(py, "value"))?.unbind()))
            }
            Err(error) => self.end(py, Outcome::Raised(error)),
        };
        ended?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(target) = lock(&self.target).take() {
            target.discard(py);
        }
        let closed = match self.inner(py) {
            Some(inner) => inner.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        self.call.settle(py, Outcome::Raised(errors::closed_meanwhile(py, self.call.runner_name())));
        closed
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, "__name__").unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, "__qualname__").unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
    }

    #[getter]
    fn cr_code(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_inner(py, "cr_code")
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_inner(py, "cr_frame")
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_inner(py, "cr_await")
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.of_inner(py, "cr_running").is_some_and(|running| running.is_truthy(py).unwrap_or(false))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.inner(py) {
            Some(inner) => format!("<bridged {inner:?}>"),
            None => "<bridged call, not begun>".to_owned(),
        }
    }
}

impl BridgedCoroutine {
    fn of_inner(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        self.inner(py)?.getattr(attribute).ok().map(Bound::unbind)
    }
}

/// asyncio's "attached to a different loop" names one of the loops, by its address: add a note that names both.
fn explain_wrong_loop(error: &Bound<'_, PyAny>, awaited: Option<&Bound<'_, PyAny>>) {
    if error.is_instance_of::<PyRuntimeError>() {
        crate::call::explain_loop_mixup(error, awaited);
    }
}
