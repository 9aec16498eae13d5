//! The end of the main thread's program: Python waits for other threads then, and after that calls what is registered with
//! atexit.
//!
//! Invariants:
//! 1. Nothing is imported for it before there is a loop.

use crate::python::log;
use crate::python::names;
use crate::python::once::Once;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

static HOOK: Once<Py<PyAny>> = Once::new();
static IS_HOOKED: AtomicBool = AtomicBool::new(false);
static HAS_COME: AtomicBool = AtomicBool::new(false);

/// Says what is to be called then.
pub fn set_hook(py: Python<'_>, hook: Bound<'_, PyAny>) {
    HOOK.set(py, hook.unbind());
}

/// True the first time.
pub fn come() -> bool {
    !HAS_COME.swap(true, SeqCst)
}

/// For each loop that is made.
pub fn attend(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    if !IS_HOOKED.swap(true, SeqCst)
        && let Some(hook) = HOOK.get(py)
        && py.import("threading")?.call_method1("_register_atexit", (hook,)).is_err()
    {
        // It has come already.
        hook.call0(py)?;
    }
    if HAS_COME.load(SeqCst) {
        outlive_executors(py, event_loop);
    }
    Ok(())
}

/// Loops of other backends have no executors.
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
