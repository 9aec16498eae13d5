//! How calls end, and what their errors mean.

use crate::python::names;
use crate::python::once::intern;
use crate::python::residents;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

pub enum Outcome<T = Py<PyAny>> {
    Returned(T),
    Raised(PyErr),
}

impl<T> Outcome<T> {
    pub fn into_result(self) -> PyResult<T> {
        match self {
            Self::Returned(value) => Ok(value),
            Self::Raised(error) => Err(error),
        }
    }
}

/// Whether a bridge was made that runs coroutines with trio.
pub static HAS_TRIO: AtomicBool = AtomicBool::new(false);

pub fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    names::cancelled_error(py).is_ok_and(|class| error.is_instance(py, class)) || is_trio_cancelled(py, error)
}

pub fn is_trio_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    HAS_TRIO.load(Relaxed) && names::trio_cancelled(py).is_ok_and(|class| error.is_instance(py, class))
}

pub fn cancelled_error(py: Python<'_>) -> PyErr {
    match names::cancelled_error(py).and_then(|class| class.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Settles a `concurrent.futures.Future`, unless it is done; may be tried again, where a signal handler has raised something
/// in the middle of it.
pub fn settle_future(future: &Bound<'_, PyAny>, outcome: &Outcome) -> PyResult<()> {
    let py = future.py();
    let is = |state: &Bound<'_, PyString>| future.call_method0(state)?.is_truthy();
    if is(intern!(py, "done"))? {
        return Ok(());
    }
    // False if the future was cancelled, which is how this call came to its end.
    if !is(intern!(py, "running"))? && !is(intern!(py, "set_running_or_notify_cancel"))? {
        return Ok(());
    }
    match outcome {
        Outcome::Returned(value) => future.call_method1(intern!(py, "set_result"), (value,)),
        Outcome::Raised(error) => future.call_method1(intern!(py, "set_exception"), (error.value(py),)),
    }
    .map(drop)
}

/// Words of errors about a wrong loop: asyncio's, and aiohttp's.
const MIXUPS: [&str; 4] =
    ["different loop", "different event loop", "Event loop is closed", "should be used inside a task"];

/// asyncio names a wrong loop by its address only; a note says which loop that is and what to do.
pub fn explain_loop_mixup(error: &Bound<'_, PyAny>, awaited: Option<&Bound<'_, PyAny>>) {
    let py = error.py();
    if !error.is_instance_of::<PyRuntimeError>() {
        return;
    }
    let explain = || -> PyResult<()> {
        // The text of an error is the user's code, and may fail.
        let text = error.str().and_then(|text| text.extract::<String>());
        if !text.is_ok_and(|text| MIXUPS.iter().any(|known| text.contains(known))) {
            return Ok(());
        }
        let explain = py.import("syncline._diagnosis")?.getattr("explain_loop_mixup")?;
        let note = explain.call1((error, residents::loop_owners(py)?, awaited))?;
        if !note.is_none() {
            error.call_method1("add_note", (note,))?;
        }
        Ok(())
    };
    // An explanation that fails must not hide what it explains.
    if let Err(failed) = explain() {
        failed.write_unraisable(py, None);
    }
}
