//! What one call runs on its loop, step by step.
//!
//! Both coroutines that a loop's tasks see (that of one call, and that of a session) drive the user's through this, and
//! know its end in the very step in which it ends. A done callback would run one loop iteration later.

use crate::call::{Call, Outcome, explain_loop_mixup, is_cancelled};
use crate::errors;
use crate::once::intern;
use crate::target::Target;
use crate::wait;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::types::iterator::PySendResult;
use std::sync::{Arc, OnceLock};
use syncline_core::sync::{Mutex, lock};

pub enum Step {
    /// For the task: what it has to wait for.
    Awaits(Py<PyAny>),
    Ended(Outcome),
}

pub struct Execution {
    pub call: Arc<Call>,
    /// What is driven, once it has begun.
    inner: OnceLock<Py<PyAny>>,
    /// What is to begin, until then.
    target: Mutex<Option<Target>>,
    /// What the task was told to wait for: a wrong loop is explained by it.
    awaited: Mutex<Option<Py<PyAny>>>,
}

impl Execution {
    pub fn new(call: Arc<Call>, target: Target) -> Self {
        let (inner, target) = match target {
            Target::Coroutine(coroutine) => (OnceLock::from(coroutine), None),
            other => (OnceLock::new(), Some(other)),
        };
        Self { call, inner, target: Mutex::new(target), awaited: Mutex::new(None) }
    }

    pub fn inner<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
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

    pub fn send(&self, value: &Bound<'_, PyAny>) -> Step {
        let py = value.py();
        let stepped = wait::stepping(py, &self.call, || {
            let inner = self.begin(py)?;
            // SAFETY: `send` only hands its object to `PyIter_Send`, which takes coroutines as well as iterators.
            let inner = unsafe { inner.cast_unchecked::<PyIterator>() };
            inner.send(value)
        });
        match stepped {
            Ok(PySendResult::Next(awaited)) => self.suspend(awaited),
            Ok(PySendResult::Return(value)) => self.end(Outcome::Returned(value.unbind())),
            Err(error) => self.end(Outcome::Raised(error)),
        }
    }

    pub fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> Step {
        let py = kind.py();
        if is_cancelled(py, &PyErr::from_value(kind.clone())) {
            self.call.note_cancelled();
        }
        let awaited = lock(&self.awaited).take();
        if kind.is_instance_of::<PyRuntimeError>() {
            // "attached to a different loop" names one of the loops, by its address: a note names both.
            explain_loop_mixup(kind, awaited.as_ref().map(|awaited| awaited.bind(py)));
        }
        let stepped = match self.inner(py) {
            // `throw` with several arguments is deprecated; the task gives one.
            Some(inner) => wait::stepping(py, &self.call, || match (value, traceback) {
                (None, None) => inner.call_method1(intern!(py, "throw"), (kind,)),
                _ => inner.call_method1(intern!(py, "throw"), (kind, value, traceback)),
            }),
            // Cancelled before its first step: what never began is never called.
            None => {
                self.discard(py);
                Err(PyErr::from_value(kind.clone()))
            }
        };
        match stepped {
            Ok(awaited) => self.suspend(awaited),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                self.end(match error.value(py).getattr(intern!(py, "value")) {
                    Ok(value) => Outcome::Returned(value.unbind()),
                    Err(error) => Outcome::Raised(error),
                })
            }
            Err(error) => self.end(Outcome::Raised(error)),
        }
    }

    /// Ends what runs by `GeneratorExit`, and settles the call.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.discard(py);
        let closed = match self.inner(py) {
            Some(inner) => inner.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        self.call.settle(py, Outcome::Raised(errors::closed_meanwhile(py, self.call.runner_name())));
        closed
    }

    fn discard(&self, py: Python<'_>) {
        let target = lock(&self.target).take();
        if let Some(target) = target {
            target.discard(py);
        }
    }

    fn suspend(&self, awaited: Bound<'_, PyAny>) -> Step {
        *lock(&self.awaited) = Some(awaited.clone().unbind());
        Step::Awaits(awaited.unbind())
    }

    fn end(&self, outcome: Outcome) -> Step {
        drop(lock(&self.awaited).take());
        Step::Ended(outcome)
    }
}
