//! What signal handlers raise in the middle of code of ours.
//!
//! Python runs signal handlers in its main thread wherever that executes Python code, and so also in the few Python
//! functions that we call while a call is sent or waits: scheduling on other loops, diagnosis, logging. What a handler
//! raises there is the caller's, like what it raises in the wait itself, but those functions can't raise it.
//!
//! Invariants:
//! 1. What is kept is raised by the operation during which it came: by its wait, at the next look, or at its end. Where no
//!    operation can raise it (a destructor, a callback of a loop), the interpreter gets it, which raises it in the main
//!    thread as soon as that runs Python code again. 2. Only the main thread keeps anything: in others no handler runs.

use crate::python::errors;
use crate::python::leaky::Leaky;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::process;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::ffi::{c_int, c_void};

/// How often a short step is made anew that handlers' exceptions break off.
const MOST_TRIES: u32 = 8;

thread_local! {
    static KEPT: Leaky<PyErr> = const { Leaky::new() };
}

/// For an error out of Python code of ours that itself raises nothing: in the main thread it is a handler's. Returns
/// whether it was kept; elsewhere it is reported.
pub fn keep(py: Python<'_>, error: PyErr) -> bool {
    if !process::is_main_thread(py) {
        error.write_unraisable(py, None);
        return false;
    }
    // Of two, the later one counts, as if it had been raised while the first one was handled.
    drop(KEPT.with(|kept| kept.replace(Some(error))));
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

/// Makes a short step that has to be made, and may be made anew if a handler's exception broke it off.
pub fn through<T>(py: Python<'_>, step: impl Fn() -> PyResult<T>) -> Option<T> {
    for _ in 0..MOST_TRIES {
        match step() {
            Ok(value) => return Some(value),
            Err(error) => {
                if !keep(py, error) {
                    return None;
                }
            }
        }
    }
    None
}

/// Whether a signal handler raised this, as far as can be told: what comes out of a loop that the main thread drives may
/// also come from a background task. `KeyboardInterrupt` is always taken for a handler's.
pub fn are_handlers(py: Python<'_>, error: &PyErr) -> bool {
    process::is_main_thread(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py) || runs_through_handler(py, error).unwrap_or(false))
}

/// Whether the error's traceback shows a handler's frame.
fn runs_through_handler(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let handlers = names::handler_codes(py)?.call0()?;
    traceback_shows(py, error, |code| handlers.contains(code))
}

fn traceback_shows(
    py: Python<'_>,
    error: &PyErr,
    is_it: impl Fn(&Bound<'_, PyAny>) -> PyResult<bool>,
) -> PyResult<bool> {
    let mut traceback = error.traceback(py).map(Bound::into_any);
    while let Some(at) = traceback.filter(|at| !at.is_none()) {
        if is_it(&at.getattr(intern!(py, "tb_frame"))?.getattr(intern!(py, "f_code"))?)? {
            return Ok(true);
        }
        traceback = Some(at.getattr(intern!(py, "tb_next"))?);
    }
    Ok(false)
}

/// The text of an object, which is Python code, and where handlers run.
pub fn text_of(object: &Bound<'_, PyAny>) -> String {
    shown(object, object.str())
}

/// The same for its `repr`.
pub fn repr_of(object: &Bound<'_, PyAny>) -> String {
    shown(object, object.repr())
}

fn shown(object: &Bound<'_, PyAny>, text: PyResult<Bound<'_, PyString>>) -> String {
    match text {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(error) => {
            keep_unless_exception(object.py(), error);
            errors::type_name(object)
        }
    }
}

/// Whether something waits to be raised.
pub fn are_kept() -> bool {
    KEPT.with(Leaky::is_some)
}

/// Raises what was kept.
pub fn raise_kept() -> PyResult<()> {
    KEPT.with(Leaky::take).map_or(Ok(()), Err)
}

/// The same, or else what the handlers of signals that are pending raise.
pub fn check(py: Python<'_>) -> PyResult<()> {
    raise_kept()?;
    py.check_signals()
}

/// The same, and what another thread has raised in this one (`PyThreadState_SetAsyncExc`: time limits of job runners, test
/// tools): that comes where Python code runs, of which a waiting thread runs none by itself.
pub fn check_all(py: Python<'_>) -> PyResult<()> {
    static NOTHING: Once<Py<PyAny>> = Once::new();
    check(py)?;
    let nothing =
        NOTHING.get_or_try_init(py, || Ok(py.eval(c"lambda: None", Some(&PyDict::new(py)), None)?.unbind()))?;
    nothing.call0(py).map(drop)
}

/// Whether this came out of a loop's turn for the thread that drives the loop, rather than from a background task or a
/// callback. asyncio lets only two kinds out of those, which a handler, or another thread, may also raise.
pub fn concerns_driver(py: Python<'_>, error: &PyErr) -> bool {
    let is_usual = error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
    !is_usual || are_handlers(py, error) || !comes_from_callback(py, error).unwrap_or(true)
}

/// Whether the traceback shows the frame in which asyncio, or uvloop, runs callbacks.
fn comes_from_callback(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    traceback_shows(py, error, |code| {
        Ok(code.getattr(intern!(py, "co_qualname"))?.extract::<String>()?.ends_with("Handle._run"))
    })
}

/// By 1, for an end that can't raise anything.
pub fn pass_on(py: Python<'_>) {
    if are_kept() {
        // SAFETY: attached; `raise_pending` has the signature of a pending call and uses no argument.
        let failed = unsafe { ffi::Py_AddPendingCall(Some(raise_pending), std::ptr::null_mut()) };
        if failed != 0
            && let Some(error) = KEPT.with(Leaky::take)
        {
            // There are 32 places, and none was free.
            error.write_unraisable(py, None);
        }
    }
}

/// A pending call of the main thread.
extern "C" fn raise_pending(_: *mut c_void) -> c_int {
    // SAFETY: the interpreter makes its pending calls attached.
    let py = unsafe { Python::assume_attached() };
    match KEPT.with(Leaky::take) {
        Some(error) => {
            error.restore(py);
            -1
        }
        None => 0,
    }
}
