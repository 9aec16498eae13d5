//! Making a task, on its loop's thread.

use super::loops::{self, Maker};
use super::steps;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use pyo3::exceptions::{PyAttributeError, PyKeyboardInterrupt, PySystemError};
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
        Maker::Factory => {
            let made = event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&options));
            let made = made.map_err(|error| nameless(py, &error).unwrap_or(error))?;
            if made.hasattr(intern!(py, "cancel"))? { Ok(made) } else { Err(errors::not_a_task(&made)) }
        }
    }
}

/// What to say instead where asyncio could not name what the user's factory has returned, as that is no task: Python 3.13.0
/// names it whatever it is.
fn nameless(py: Python<'_>, error: &PyErr) -> Option<PyErr> {
    if !error.is_instance_of::<PyAttributeError>(py) {
        return None;
    }
    // It was raised by the first function that was called here, `create_task`, and not below that, in the factory.
    let is_of_asyncio = error.traceback(py)?.getattr(intern!(py, "tb_next")).ok()?.is_none();
    let value = error.value(py);
    let name: String = value.getattr(intern!(py, "name")).ok()?.extract().ok()?;
    (is_of_asyncio && name == "set_name")
        .then(|| value.getattr(intern!(py, "obj")).ok())?
        .map(|made| errors::not_a_task(&made))
}

/// What Python says of a function in C that has failed, and of its error no more than that.
const LOST: &str = "NULL without setting an exception";

/// The error that kept a task from being made. asyncio's C code overlooks an error of the loop's `call_soon`, and ends
/// in a SystemError whose cause is the real one.
pub fn real_error(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PySystemError>(py) {
        return error;
    }
    match error.cause(py) {
        Some(cause) => cause,
        // Sometimes it has lost the error itself. In the main thread that was a signal handler's, mostly the default one's.
        None if process::is_main_thread(py) && error.to_string().contains(LOST) => PyKeyboardInterrupt::new_err(()),
        None => error,
    }
}

/// Has a coroutine of ours that has begun go on in another task, which begins in the loop's next turn.
pub fn go_on_in_new_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "loop"), event_loop)?;
    if let Some(context) = context {
        options.set_item(intern!(py, "context"), context)?;
    }
    names::task(py)?.call((coroutine,), Some(&options))
}
