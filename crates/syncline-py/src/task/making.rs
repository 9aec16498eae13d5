//! Making a task, on its loop's thread.

use super::loops::{self, Maker};
use super::steps;
use crate::python::names;
use crate::python::once::intern;
use crate::switch::nestable;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub fn make_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "context"), context)?;
    let maker = loops::maker(event_loop)?;
    if !matches!(maker, Maker::Factory) {
        options.set_item(intern!(py, "loop"), event_loop)?;
        if names::has_eager_tasks(py) {
            options.set_item(intern!(py, "eager_start"), true)?;
        }
    }
    match maker {
        Maker::Ours => names::task(py)?.call((coroutine,), Some(&options)),
        Maker::Shown => steps::make_task(coroutine, &options),
        // The user's factory decides how the task starts. An eager one may start it at once, as this is the loop's
        // thread.
        Maker::Factory => event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&options)),
    }
}

/// Starts a coroutine in a task of its own, on Python 3.12 and newer with its first step.
#[pyfunction]
pub fn start_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    make_task(event_loop, &nestable::for_task_here(coroutine)?, &context.unbind())
}
