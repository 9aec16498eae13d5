//! One loop and one context for all the steps of a generator.

use crate::context::Carried;
use crate::errors;
use crate::placement::{Place, Shared, thread_key};
use crate::target::Target;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

/// One loop and one context for all the steps of one generator.
#[pyclass(frozen, module = "syncline._core")]
pub struct Pinned {
    pub shared: Arc<Shared>,
    pub place: Place,
    pub context: Py<PyAny>,
    pub thread: u64,
}

#[pymethods]
impl Pinned {
    /// Calls `step` on the loop and waits for the awaitable that it returns. (Async generators must take their steps
    /// there: the first tells the loop, by a hook of the thread's, to finalize them.)
    #[pyo3(signature = (step, /, *args))]
    fn run_sync(&self, py: Python<'_>, step: Py<PyAny>, args: Py<PyTuple>) -> PyResult<Py<PyAny>> {
        let target = Target::Function { function: step, args, kwargs: None };
        if matches!(self.place, Place::Own(_)) && self.thread != thread_key() {
            target.discard(py);
            return Err(PyRuntimeError::new_err(
                "in scope \"caller\" a generator belongs to the thread that made it, whose loop runs it; iterate there",
            ));
        }
        let carried = Carried::of(self.context.bind(py))?;
        let result = match self.shared.execute_at(py, &self.place, target, &carried, None) {
            Ok(result) => result,
            Err(target) => {
                target.discard(py);
                return Err(self.refused(py));
            }
        };
        if self.shared.shares_context {
            carried.write_back(py, false)?;
        }
        result
    }
}

impl Pinned {
    fn refused(&self, py: Python<'_>) -> PyErr {
        match &self.place {
            Place::Runner(runner) if runner.takes_calls() => errors::deadlock(
                py,
                format!(
                    "a generator of the runner {:?} was resumed by sync code that this very runner waits for; iterate \
                     over it with `async for` there",
                    runner.name
                ),
            ),
            _ => errors::closed_meanwhile(py, &self.shared.name),
        }
    }
}
