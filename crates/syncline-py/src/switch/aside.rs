//! Nested calls that are no bridge's: what asyncio's own functions do where `syncline.compat.nest_asyncio` lets them
//! nest. In a strand they await in place. Any other stack is put aside by the Python code of that module, which turns
//! the loop in a greenlet meanwhile. What such a stack has to let go of for that time is here.

use super::greenlets;
use super::nest::{self, Driving};
use super::strand::{self, Masked, Strand};
use crate::coroutine::target::Target;
use crate::python::context;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};

fn strand_here(py: Python<'_>) -> Option<Arc<Strand>> {
    strand::active().filter(|strand| strand.can_be_awaited_in(py))
}

/// Whether the present code runs in a task that can await in place.
#[pyfunction]
pub fn can_await_here(py: Python<'_>) -> bool {
    strand_here(py).is_some()
}

/// Whether the present code runs in a task that has opted in to that, on a loop that is no bridge's: those that it
/// starts do not by themselves.
#[pyfunction]
pub fn has_opted_in(py: Python<'_>) -> bool {
    nest::driving() == Driving::Foreign && can_await_here(py)
}

/// Awaits in place, in the task that the present code runs in.
#[pyfunction]
#[pyo3(signature = (awaitable, /))]
pub fn await_here(py: Python<'_>, awaitable: Py<PyAny>) -> PyResult<Py<PyAny>> {
    match strand_here(py) {
        Some(strand) => nest::run_without_bridge(py, &strand, Target::Awaitable(awaitable), None),
        None => Err(PyRuntimeError::new_err("no task that can await in place runs here")),
    }
}

struct Left {
    /// The contexts that the stack had entered, the innermost first: other code may have to enter them meanwhile.
    contexts: Vec<Py<PyAny>>,
    masked: Masked,
}

/// `with Aside():` the stack holds neither a context nor a strand, so its block may switch to another greenlet that
/// turns the loop.
#[pyclass(frozen, module = "syncline._core")]
#[derive(Default)]
pub struct Aside {
    left: Mutex<Option<Left>>,
}

#[pymethods]
impl Aside {
    /// Raises RuntimeError on the loops of bridges: their code lies on the stack, too.
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        if nest::driving() != Driving::Foreign {
            return Err(PyRuntimeError::new_err(
                "a nested call can't await in place here, on a bridge's loop in a callback or with nested=\"thread\"; make \
                 it in a task of a bridge with nested=\"switch\", or use syncline.run_sync()",
            ));
        }
        greenlets::load(py).map_err(|error| greenlets::missing(py, error))?;
        Ok(Self::default())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let api = greenlets::loaded(py)?;
        let stack = api.current(py)?;
        let mut contexts = Vec::new();
        loop {
            let current = api.context_of(&stack)?;
            // A thread's first context is there without having been entered.
            if current.is_none() || !context::leave(&current) {
                break;
            }
            contexts.push(current.unbind());
        }
        let left = Left { contexts, masked: Masked::new() };
        let earlier = lock(&self.left).replace(left);
        drop(earlier);
        Ok(())
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        let left = lock(&self.left).take();
        let Some(Left { contexts, masked }) = left else { return Ok(()) };
        drop(masked);
        contexts.iter().rev().try_for_each(|each| context::enter_again(each.bind(py)))
    }
}
