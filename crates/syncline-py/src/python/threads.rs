//! Starting threads: runners' and workers'. They are daemon `threading.Thread`s, so that debuggers and `threading` see them.

use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// What can put greenlets in the place of a process's threads.
const PATCHERS: [&str; 2] = ["gevent.monkey", "eventlet.patcher"];

pub fn start(py: Python<'_>, name: &str, target: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    check_for_greenlets(py)?;
    let options = PyDict::new(py);
    options.set_item("target", target)?;
    options.set_item("args", args)?;
    options.set_item("name", name)?;
    options.set_item("daemon", true)?;
    if py.version_info() >= (3, 14) {
        // Threads inherit their starter's context there, in some builds by default, and keep alive what is in it.
        options.set_item("context", names::context(py)?.call0()?)?;
    }
    let thread = names::thread(py)?.call((), Some(&options))?;
    thread.call_method0(intern!(py, "start"))?;
    Ok(thread.unbind())
}

/// A thread that is a greenlet of the caller's own would never run while the caller waits for it.
fn check_for_greenlets(py: Python<'_>) -> PyResult<()> {
    let modules = names::modules(py)?;
    for patcher in PATCHERS {
        if modules.contains(patcher)? {
            let explain = py.import("syncline._diagnosis")?.getattr("explain_patched_threads")?;
            if let Some(message) = explain.call0()?.extract::<Option<String>>()? {
                return Err(PyRuntimeError::new_err(message));
            }
        }
    }
    Ok(())
}
