//! What syncline logs, to the logger "syncline".

use crate::python::errors;
use crate::python::names;
use crate::python::once::Once;
use crate::python::signals;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Logs a message, and the traceback of `error`. An error in logging itself is reported, not raised, and what a signal
/// handler raises meanwhile is kept for the caller (see `signals`).
pub fn log(py: Python<'_>, level: &str, message: &str, error: Option<&PyErr>) {
    match logger(py) {
        Ok(logger) => log_to(&logger, level, message, error),
        Err(failed) => signals::keep_unless_exception(py, failed),
    }
}

/// The logger. It is looked up once: `getLogger` takes a lock of logging's, which a signal handler's exception can
/// leave locked for good.
pub fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static LOGGER: Once<Py<PyAny>> = Once::new();
    let known = LOGGER.get_or_try_init(py, || Ok(names::get_logger(py)?.call1(("syncline",))?.unbind()));
    Ok(known?.bind(py).clone())
}

/// As [`log()`], for code that has the logger already: late in the interpreter's shutdown it can't be looked up.
pub fn log_to(logger: &Bound<'_, PyAny>, level: &str, message: &str, error: Option<&PyErr>) {
    let py = logger.py();
    let write = || {
        let extra = PyDict::new(py);
        if let Some(error) = error {
            extra.set_item("exc_info", errors::object(py, error))?;
        }
        // The text is an argument of "%s", as it may hold a "%" of its own.
        logger.call_method(level, ("%s", message), Some(&extra))
    };
    if let Err(error) = write() {
        signals::keep_unless_exception(py, error);
    }
}
