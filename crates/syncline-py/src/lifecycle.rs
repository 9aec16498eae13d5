//! The life of the process, as the package has a part in it: import, fork, exit.
//!
//! Invariants:
//! 1. A fork made in Python needs the interpreter, so it finds no other thread inside of a lock or a cell that is held
//!    only while attached. A fork made by C code may find any lock taken; so its child never waits for a lock that
//!    exists before the first use of a bridge.
//! 2. At exit loops end in this order: those that daemon threads drive themselves, then runners, then what the main
//!    thread has deferred to its end. After that no thread of ours attaches, and those that still run are put to sleep.
//! 3. When the main thread's program ends, Python ends its executors; from then on loops do without
//!    (`outlive_executors`). If Python is going to wait for threads, the loop that the main thread drives itself ends
//!    at once, since what is open there may own those threads. Other loops go on: functions registered with atexit may
//!    still use them.

use crate::bridge::loops_of_thread;
use crate::bridge::observing;
use crate::call::ends::wait_for_ends;
use crate::python::left_behind;
use crate::python::main_end;
use crate::python::names;
use crate::python::process;
use crate::python::recording;
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
        // Python 3.12 and later refuse by themselves, in these words.
        return Err(PyImportError::new_err("module syncline._core does not support loading in subinterpreters"));
    }
    process::find_main_thread(py)?;
    let after_fork = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        greenlets::after_fork();
        process::begin_child(args.py())?;
        residents::leave_parents(args.py());
        observing::after_fork();
        Ok(())
    };
    let main_ended = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| end_main(args.py());
    let main_ended = PyCFunction::new_closure(py, Some(c"syncline_main_ended"), None, main_ended)?;
    main_end::set_hook(py, main_ended.into_any());
    let at_exit = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| close_all(args.py());
    let options = PyDict::new(py);
    options
        .set_item("after_in_child", PyCFunction::new_closure(py, Some(c"syncline_after_fork"), None, after_fork)?)?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        os.call_method("register_at_fork", (), Some(&options))?;
    }
    let at_exit = PyCFunction::new_closure(py, Some(c"syncline_at_exit"), None, at_exit)?;
    // Called from a Python frame: uvloop in debug mode asks for its caller's frame, and on Python 3.15 fails if there
    // is none.
    let from_python = py.eval(c"lambda close: close()", Some(&PyDict::new(py)), None)?;
    py.import("atexit")?.call_method1("register", (from_python, at_exit)).map(drop)
}

/// The end of the main thread's program, by 3.
fn end_main(py: Python<'_>) {
    if !main_end::come() {
        return;
    }
    for event_loop in residents::event_loops(py) {
        main_end::outlive_executors(py, &event_loop);
    }
    let waits = names::is_waiting_for_threads(py).and_then(|waits| waits.call0()?.is_truthy());
    if waits.unwrap_or(false) {
        loops_of_thread::end_own(py);
    }
}

/// Ends all loops, in the order of 2.
fn close_all(py: Python<'_>) -> PyResult<()> {
    if !residents::alive(py).is_empty() {
        end_main(py);
    }
    process::begin_exit();
    let (own_thread, driven): (Vec<_>, Vec<_>) =
        residents::alive(py).into_iter().partition(|resident| resident.own_thread().is_some());
    begin(py, &driven);
    let cleanup = driven.iter().map(|resident| resident.cleanup()).max().unwrap_or_default();
    process::wait_until_none_is_inside(py, cleanup + Duration::from_secs(1));
    let ended = wait_for_ends(py, Vec::new(), own_thread, Instant::now());
    thread_end::run_now(py);
    recording::end_at_exit(py);
    process::leave();
    process::wait_until_none_is_inside(py, Duration::from_secs(1));
    left_behind::put_to_sleep(py, residents::alive(py).iter().filter_map(|resident| resident.running_thread()));
    ended
}

fn begin(py: Python<'_>, residents: &[Arc<dyn Resident>]) {
    for resident in residents {
        Arc::clone(resident).begin_end(py);
    }
}
