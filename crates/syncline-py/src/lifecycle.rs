//! The life of the process, as the package has a part in it: import, fork, exit.
//!
//! Invariants:
//! 1. A fork needs the interpreter, so no other thread is inside of a lock or a cell that is held only while attached.
//! 2. At the exit loops end in this order: those that daemon threads drive themselves, then runners, then what the main
//!    thread has deferred to its end. After that no thread of ours attaches.

use crate::call::ends::wait_for_ends;
use crate::python::long_waits;
use crate::python::process;
use crate::python::residents::{self, Resident};
use crate::python::thread_end;
use crate::switch::greenlets;
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: attached, so there is a current interpreter.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above; it is alive.
    unsafe { ffi::PyInterpreterState_GetID(interpreter) == 0 }
}

pub fn install(py: Python<'_>) -> PyResult<()> {
    if !is_main_interpreter(py) {
        // As Python 3.12 and later say by themselves.
        return Err(PyImportError::new_err("module syncline._core does not support loading in subinterpreters"));
    }
    process::find_main_thread(py)?;
    let after_fork = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        residents::leave_all(args.py());
        long_waits::forget_all(args.py());
        greenlets::after_fork();
        process::begin_child(args.py())
    };
    let at_exit = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| close_all(args.py());
    let options = PyDict::new(py);
    options
        .set_item("after_in_child", PyCFunction::new_closure(py, Some(c"syncline_after_fork"), None, after_fork)?)?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        os.call_method("register_at_fork", (), Some(&options))?;
    }
    let at_exit = PyCFunction::new_closure(py, Some(c"syncline_at_exit"), None, at_exit)?;
    // From a frame of Python's: uvloop in debug mode looks for its caller's, and on Python 3.15 fails where there is none.
    let from_python = py.eval(c"lambda close: close()", Some(&PyDict::new(py)), None)?;
    py.import("atexit")?.call_method1("register", (from_python, at_exit)).map(drop)
}

/// By 2.
fn close_all(py: Python<'_>) -> PyResult<()> {
    process::begin_exit();
    let (own_thread, driven): (Vec<_>, Vec<_>) =
        residents::alive(py).into_iter().partition(|resident| resident.own_thread().is_some());
    begin(py, &driven);
    let cleanup = driven.iter().map(|resident| resident.cleanup()).max().unwrap_or_default();
    process::wait_until_none_is_inside(py, cleanup + Duration::from_secs(1));
    let begun = Instant::now();
    begin(py, &own_thread);
    let ended = wait_for_ends(py, own_thread, begun);
    thread_end::run_now(py);
    process::leave();
    process::wait_until_none_is_inside(py, Duration::from_secs(1));
    ended
}

fn begin(py: Python<'_>, residents: &[Arc<dyn Resident>]) {
    for resident in residents {
        Arc::clone(resident).begin_exit(py);
    }
}
