//! Cancellations that reach a session's task, and what they are handed on to.

use crate::call::outcome::{is_cancelled, is_trio_cancelled};
use crate::python::once::intern;
use crate::python::signals;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

pub fn is_cancelled_error(error: &Bound<'_, PyAny>) -> bool {
    is_cancelled(error.py(), &PyErr::from_value(error.clone()))
}

/// Whether it is one of a task of asyncio's, which can keep it until it suspends.
pub fn is_asyncios(error: &Bound<'_, PyAny>) -> bool {
    is_cancelled_error(error) && !is_trio_cancelled(error.py(), &PyErr::from_value(error.clone()))
}

/// The message of a cancellation, if it has one.
fn message_of<'py>(error: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let args = error.getattr(intern!(error.py(), "args")).ok()?.cast_into::<PyTuple>().ok()?;
    args.get_item(0).ok()
}

/// Whether this cancellation comes from a cancel scope of anyio's. Such a scope cancels what awaits in it again and
/// again, so nothing is lost if this one is dropped: it was for a wait between two steps, which is over. Delivered
/// late, it could hit code that has shielded itself from the scope since.
pub fn is_repeated(error: &Bound<'_, PyAny>) -> bool {
    let text = message_of(error).and_then(|message| message.extract::<String>().ok());
    text.is_some_and(|text| text.starts_with("Cancelled ") && text.contains(" cancel scope "))
}

/// Hands a cancellation on to what is awaited, with its message, by which anyio's scopes know their own.
pub fn cancels(awaited: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> bool {
    let py = awaited.py();
    let cancel = || -> PyResult<bool> {
        match message_of(error) {
            Some(message) => awaited.call_method1(intern!(py, "cancel"), (message,)),
            None => awaited.call_method0(intern!(py, "cancel")),
        }?
        .is_truthy()
    };
    // Where there is nothing to cancel, the caller throws the error into the step instead.
    signals::unbroken(py, cancel).unwrap_or(false)
}

/// Has the task, whose turn this is, keep a cancellation that it was just given.
pub fn keep(task: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) {
    let py = task.py();
    // It counts as asked for once, as before.
    if signals::unbroken(py, || task.call_method0(intern!(py, "uncancel"))).is_ok() {
        cancels(task, error);
    }
}
