//! Cancellations that reach a session's task, and what they are handed on to.

use crate::call::outcome::is_cancelled;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

pub fn is_cancelled_error(error: &Bound<'_, PyAny>) -> bool {
    is_cancelled(error.py(), &PyErr::from_value(error.clone()))
}

/// The message of a cancellation, if it has one.
fn message_of<'py>(error: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let args = error.getattr(intern!(error.py(), "args")).ok()?.cast_into::<PyTuple>().ok()?;
    args.get_item(0).ok()
}

/// Whether this comes from one of anyio's cancel scopes, which cancel again and again what awaits inside of them. What
/// such a scope did between two steps is over; delivered late, it would hit code that the scope shields by now.
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
    // What can't be cancelled gets the error itself.
    cancel().unwrap_or(false)
}
