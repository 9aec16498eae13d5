//! Threads: how they are told apart, and how runners' and workers' are started. They are daemon `threading.Thread`s, so that debuggers and `threading` see them.

use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What can put greenlets in the place of a process's threads.
const PATCHERS: [&str; 2] = ["gevent.monkey", "eventlet.patcher"];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD_KEY: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A number that nothing else in this process has, or had.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

/// A number for this thread that no other one ever has; Python's identifiers are used again.
pub fn thread_key() -> u64 {
    THREAD_KEY.get().unwrap_or_else(|| {
        let key = next_id();
        THREAD_KEY.set(Some(key));
        key
    })
}

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
