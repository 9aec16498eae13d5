//! The coroutine that the task of one call sees: it drives the user's, and settles the call when that ends.
//!
//! A done callback on the task would tell us a turn later. And what the task raises asyncio would see too: a
//! `SystemExit` would end the loop.
//!
//! Invariants:
//! 1. However the user's coroutine ends, that settles the call, once, before the task learns of it.
//! 2. The only exception that the task sees is a cancellation of the library that runs it, so that it counts as
//!    cancelled. All others go to the caller alone.
//! 3. The first step may be made in the task's stead, before the task has begun (spare.rs). What came of it the task
//!    learns when it begins.

use super::cancelling::{cancels, is_cancelled_error};
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
use syncline_core::sync::{Mutex, lock, replace, take};

/// What came of a step that was made in the task's stead (by 3).
enum MadeBefore {
    Awaits(Py<PyAny>),
    /// It is over, by this cancellation if there is one.
    Ended(Option<PyErr>),
}

/// The coroutine of one call through the bridge. It looks like the one it drives: name, code and frame are that one's.
// No `__traverse__`: call, task and coroutine refer to each other only until the call is settled.
#[pyclass(frozen, module = "syncline._core")]
pub struct BridgedCoroutine {
    /// `None` in the coroutine of a spare task.
    execution: Mutex<Option<Arc<Execution>>>,
    made_before: Mutex<Option<MadeBefore>>,
}

impl BridgedCoroutine {
    pub fn new(call: Arc<Call>, target: Target, owner: Owner) -> Self {
        let this = Self::spare();
        this.run(Arc::new(Execution::new(call, target, owner)));
        this
    }

    /// The coroutine of a spare task.
    pub fn spare() -> Self {
        Self { execution: Mutex::new(None), made_before: Mutex::new(None) }
    }

    /// Gives it its call.
    pub fn run(&self, execution: Arc<Execution>) {
        drop(replace(&self.execution, Some(execution)));
    }

    /// Takes the call away, which has ended: the task is spare again.
    pub fn rest(&self) {
        drop(take(&self.execution));
        drop(take(&self.made_before));
    }

    fn execution(&self) -> Option<Arc<Execution>> {
        lock(&self.execution).clone()
    }

    /// `None` in a spare task.
    pub fn call(&self) -> Option<Arc<Call>> {
        self.execution().map(|execution| Arc::clone(&execution.call))
    }

    /// Makes the first step in the task's stead (by 3). Returns whether that was all.
    pub fn step_before(&self, py: Python<'_>) -> bool {
        let Some(execution) = self.execution() else { return true };
        let made = match self.after(py, &execution, execution.send(py.None().bind(py))) {
            Ok(Some(awaited)) => MadeBefore::Awaits(awaited),
            Ok(None) => MadeBefore::Ended(None),
            Err(cancelled) => MadeBefore::Ended(Some(cancelled)),
        };
        let is_all = matches!(made, MadeBefore::Ended(_));
        drop(replace(&self.made_before, Some(made)));
        is_all
    }

    /// What the task is told after a step: what to wait for, or `None` at the end, by 1 and 2.
    fn after(&self, py: Python<'_>, execution: &Execution, step: Step) -> PyResult<Option<Py<PyAny>>> {
        let outcome = match step {
            Step::Awaits(awaited) => return Ok(Some(awaited)),
            Step::Ended(outcome) => outcome,
        };
        let cancelled = match &outcome {
            Outcome::Raised(error) if is_cancelled_here(py, error) => Some(error.clone_ref(py)),
            _ => None,
        };
        execution.call.settle(py, outcome);
        cancelled.map_or(Ok(None), Err)
    }

    pub fn has_begun(&self, py: Python<'_>) -> bool {
        self.execution().is_some_and(|execution| execution.has_begun(py))
    }

    /// For a task that can't go on: ends the call by that error, and closes the coroutine.
    pub fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let Some(execution) = self.execution() else { return Ok(()) };
        // First, as closing the coroutine would settle the call with an error that says less.
        execution.call.settle(py, Outcome::Raised(error));
        execution.close(py)
    }

    /// The task has its turn, and sends this.
    fn next(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        match take(&self.made_before) {
            Some(MadeBefore::Awaits(awaited)) => return Ok(Some(awaited)),
            Some(MadeBefore::Ended(cancelled)) => return cancelled.map_or(Ok(None), Err),
            None => {}
        }
        match self.execution() {
            Some(execution) => self.after(value.py(), &execution, execution.send(value)),
            // A spare task that came into the loop's hands ends.
            None => Ok(None),
        }
    }

    fn of_inner(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        self.execution()?.inner(py)?.getattr(attribute).ok().map(Bound::unbind)
    }

    /// The same where a nested call may be suspended in it: then of the whole stack, sync code in between included.
    fn of_stack(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        if self.is_nested() {
            return parked::of_stack(py, self.layers(py), attribute);
        }
        self.of_inner(py, attribute)
    }
}

impl Steppable for BridgedCoroutine {
    fn runs_in(&self, strand: StrandId) -> bool {
        self.execution().is_some_and(|execution| execution.runs_in(strand))
    }

    fn nests(&self) -> bool {
        self.execution().is_some_and(|execution| execution.nests())
    }

    fn is_nested(&self) -> bool {
        self.execution().is_some_and(|execution| execution.is_nested())
    }

    fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        self.execution().map_or_else(Vec::new, |execution| execution.layers(py))
    }

    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        waiting_tasks::of(py, &self.call()?)
    }

    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.execution()?.name(py)
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
        self.next(py.None().bind(py))
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.next(value)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let before = take(&self.made_before);
        let Some(execution) = self.execution().filter(|_| !matches!(before, Some(MadeBefore::Ended(_)))) else {
            return Err(PyErr::from_value(kind.clone()));
        };
        // The coroutine has cancelled its own task. A task cancels what it waits for; so does this.
        if let Some(MadeBefore::Awaits(awaited)) = before
            && is_cancelled_error(kind)
            && cancels(awaited.bind(py), kind)
        {
            return Ok(awaited);
        }
        let step = execution.throw(kind, value, traceback);
        self.after(py, &execution, step)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.execution().map_or(Ok(()), |execution| execution.close(py))
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, "__name__").unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> Py<PyAny> {
        self.name(py).unwrap_or_else(|| intern!(py, "call").clone().into_any().unbind())
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
        let inner = self.execution().and_then(|execution| execution.inner(py).map(|inner| format!("{inner:?}")));
        inner.map_or_else(|| "<bridged call, not begun>".to_owned(), |inner| format!("<bridged {inner}>"))
    }
}
