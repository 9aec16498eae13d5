//! What runs in the calling thread already: an event loop of asyncio's kind, or trio.
//!
//! Neither is imported for the question: where nobody has imported it, it does not run.

use crate::python::names;
use crate::python::once::intern;
use pyo3::prelude::*;

/// Which library runs coroutines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Asyncio,
    Trio,
}

/// Whether this thread runs trio, in a task of it or around one.
pub fn runs_trio(py: Python<'_>) -> PyResult<bool> {
    Ok(is_imported(py, intern!(py, "trio"))? && names::in_trio_run(py)?.call0()?.is_truthy()?)
}

/// Whether the calling code is a task of trio's.
pub fn is_in_trio_task(py: Python<'_>) -> PyResult<bool> {
    if !is_imported(py, intern!(py, "trio"))? || !names::in_trio_task(py)?.call0()?.is_truthy()? {
        return Ok(false);
    }
    // A task of asyncio's may run on top of trio.
    Ok(names::running_loop(py)?.is_none() || names::current_task(py)?.call0()?.is_none())
}

/// The variable in which anyio's programs say which library runs them, once something may look there.
pub fn library_variable(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    if is_imported(py, intern!(py, "sniffio"))? { names::library_variable(py).map(Some) } else { Ok(None) }
}

/// Whether an event loop, asyncio's or trio's, runs in this thread.
#[pyfunction]
pub fn in_event_loop(py: Python<'_>) -> PyResult<bool> {
    if runs_trio(py)? {
        return Ok(true);
    }
    Ok(is_imported(py, intern!(py, "asyncio"))? && names::running_loop(py)?.is_some())
}

/// Whether the task of trio's that the calling code is has been cancelled, by a scope around it that it does not shield from.
pub fn is_cancelled_in_trio(py: Python<'_>) -> PyResult<bool> {
    Ok(names::trio_effective_deadline(py)?.call0()?.extract::<f64>()? == f64::NEG_INFINITY)
}

fn is_imported(py: Python<'_>, module: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Late in the interpreter's end not even this can be asked, and nothing runs any more.
    names::modules(py).map_or(Ok(false), |modules| modules.contains(module))
}
