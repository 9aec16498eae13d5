//! What signal handlers raise in the middle of code of ours.
//!
//! Python runs signal handlers in its main thread wherever that executes Python code, and so also in the few Python
//! functions that we call while a call is sent or waits: scheduling on other loops, diagnosis, logging. What a handler
//! raises there is the caller's, like what it raises in the wait itself, but those functions can't raise it.
//!
//! Invariants:
//! 1. What is kept is raised by the operation during which it came: by its wait, at the next look, or at its end.
//! 2. Only the main thread keeps anything: in others no handler runs.

use crate::python::process;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// For an error out of Python code of ours that itself raises nothing: in the main thread it is a handler's. Returns
/// whether it was kept; elsewhere it is reported.
pub fn keep(py: Python<'_>, error: PyErr) -> bool {
    if !process::is_main_thread(py) {
        error.write_unraisable(py, None);
        return false;
    }
    // Of two, the later one counts, as if it had been raised while the first one was handled.
    KEPT.set(Some(error));
    true
}

/// For an error out of code that may raise exceptions of its own: those are reported.
pub fn keep_unless_exception(py: Python<'_>, error: PyErr) {
    if error.is_instance_of::<PyException>(py) {
        error.write_unraisable(py, None);
    } else {
        let _ = keep(py, error);
    }
}

/// Whether something waits to be raised.
pub fn are_kept() -> bool {
    KEPT.with_borrow(Option::is_some)
}

/// Raises what was kept.
pub fn raise_kept() -> PyResult<()> {
    KEPT.take().map_or(Ok(()), Err)
}

/// Raises what was kept, or else what the handlers of signals that are pending raise.
pub fn check(py: Python<'_>) -> PyResult<()> {
    raise_kept()?;
    py.check_signals()
}
