//! The coroutine that the task of one call sees: it drives the user's, and settles the call when that ends.
//!
//! A done callback on the task would tell us a turn later. And what the task raises asyncio would see too: a
//! `SystemExit` would end the loop.
//!
//! Invariants:
//! 1. However the user's coroutine ends, that settles the call, once, before the task learns of it.
//! 2. The only exception that the task sees is a cancellation of the library that runs it, so that it counts as
//!    cancelled. All others go to the caller alone.

use crate::call::outcome::{Outcome, is_cancelled_here};
use crate::call::state::Call;
use crate::call::waiting_tasks;
use crate::coroutine::target::Target;
use crate::python::once::intern;
use crate::switch::kinds::{Steppable, StrandId};
use crate::switch::parked::{self, LayerView};
use crate::switch::stepper::Owner;
use crate::task::execution::{Execution, Step};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::sync::Arc;

/// The coroutine of one call through the bridge. It looks like the one it drives: name, code and frame are that one's.
// No `__traverse__`: call, task and coroutine refer to each other only until the call is settled.
#[pyclass(frozen, module = "syncline._core")]
pub struct BridgedCoroutine {
    execution: Execution,
}

impl BridgedCoroutine {
    pub fn new(call: Arc<Call>, target: Target, owner: Owner) -> Self {
        Self { execution: Execution::new(call, target, owner) }
    }

    pub fn call(&self) -> &Arc<Call> {
        &self.execution.call
    }

    /// What the task is told after a step: what to wait for, or `None` at the end, by 1 and 2.
    fn after(&self, py: Python<'_>, step: Step) -> PyResult<Option<Py<PyAny>>> {
        let outcome = match step {
            Step::Awaits(awaited) => return Ok(Some(awaited)),
            Step::Ended(outcome) => outcome,
        };
        let cancelled = match &outcome {
            Outcome::Raised(error) if is_cancelled_here(py, error) => Some(error.clone_ref(py)),
            _ => None,
        };
        self.execution.call.settle(py, outcome);
        cancelled.map_or(Ok(None), Err)
    }

    pub fn has_begun(&self, py: Python<'_>) -> bool {
        self.execution.inner(py).is_some()
    }

    /// For a task that can't go on: ends the call by that error, and closes the coroutine.
    pub fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        // First, as closing the coroutine would settle the call with an error that says less.
        self.execution.call.settle(py, Outcome::Raised(error));
        self.execution.close(py)
    }

    fn of_inner(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        self.execution.inner(py)?.getattr(attribute).ok().map(Bound::unbind)
    }

    /// The same where a nested call may be suspended in it: then of the whole stack, sync code in between included.
    fn of_stack(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        if self.is_nested() {
            return parked::of_stack(py, self.execution.layers(py), attribute);
        }
        self.of_inner(py, attribute)
    }
}

impl Steppable for BridgedCoroutine {
    fn runs_in(&self, strand: StrandId) -> bool {
        self.execution.runs_in(strand)
    }

    fn nests(&self) -> bool {
        self.execution.nests()
    }

    fn is_nested(&self) -> bool {
        self.execution.is_nested()
    }

    fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        self.execution.layers(py)
    }

    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        waiting_tasks::of(py, self.call())
    }

    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.execution.name(py)
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
        self.after(py, self.execution.send(py.None().bind(py)))
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.after(py, self.execution.send(value))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.after(py, self.execution.throw(kind, value, traceback))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.execution.close(py)
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, "__name__").unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> Py<PyAny> {
        self.execution.name(py).unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
    }

    #[getter]
    fn cr_code(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_inner(py, "cr_code")
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_stack(py, "cr_frame")
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_stack(py, "cr_await")
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.of_inner(py, "cr_running").is_some_and(|running| running.is_truthy(py).unwrap_or(false))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.execution.inner(py) {
            Some(inner) => format!("<bridged {inner:?}>"),
            None => "<bridged call, not begun>".to_owned(),
        }
    }
}
