//! The moment at which the main thread's program has ended. After that Python ends its executors, waits for threads
//! that are no daemons, and only then calls what is registered with atexit.
//!
//! Invariants:
//! 1. Nothing is imported for this before there is a loop.

use crate::python::log;
use crate::python::names;
use crate::python::once::Once;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

static HOOK: Once<Py<PyAny>> = Once::new();
static IS_HOOKED: AtomicBool = AtomicBool::new(false);
static HAS_COME: AtomicBool = AtomicBool::new(false);

/// Sets the function that is to be called at that moment.
pub fn set_hook(py: Python<'_>, hook: Bound<'_, PyAny>) {
    HOOK.set(py, hook.unbind());
}

/// Says that the moment has come. True the first time.
pub fn come() -> bool {
    !HAS_COME.swap(true, SeqCst)
}

/// To be called with each loop that is made. The first time, registers the hook with Python.
pub fn attend(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    if !IS_HOOKED.swap(true, SeqCst)
        && let Some(hook) = HOOK.get(py)
        && py.import("threading")?.call_method1("_register_atexit", (hook,)).is_err()
    {
        // Python refuses the hook once the moment has come: then it is due now.
        hook.call0(py)?;
    }
    if HAS_COME.load(SeqCst) {
        outlive_executors(py, event_loop);
    }
    Ok(())
}

/// Lets the loop do what is meant for an executor after executors have ended (`_last.py`). trio's loops have none.
pub fn outlive_executors(py: Python<'_>, event_loop: &Bound<'_, PyAny>) {
    let outlived = || -> PyResult<()> {
        if event_loop.hasattr("run_in_executor")? {
            names::outlive_executors(py)?.call1((event_loop,))?;
        }
        Ok(())
    };
    if let Err(error) = outlived() {
        log::log(py, "error", "a loop could not be prepared for the exit", Some(&error));
    }
}
