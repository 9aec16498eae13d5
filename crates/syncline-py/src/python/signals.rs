//! What signal handlers raise in the middle of our own code.
//!
//! Python runs signal handlers in its main thread, wherever that executes Python code. So they also run in the few
//! Python functions that we call while a call is sent or waits: to schedule on other loops, to look for deadlocks, to
//! log. What a handler raises there is meant for the caller, like what it raises in the wait itself. But those
//! functions are not the place to raise it. So it is *kept* here, and raised a little later.
//!
//! Invariants:
//! 1. What is kept is raised by the operation during which it came: by its wait, or at its end. Where no operation
//!    can raise it (in a destructor, in a callback of a loop), it is passed on to the interpreter, which raises it in
//!    the main thread as soon as that runs Python code again.
//! 2. Only the main thread keeps anything: in others no handler runs.

use crate::python::errors;
use crate::python::leaky::Leaky;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::process;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRecursionError, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::ffi::{c_int, c_void};

/// So often a short step is tried that exceptions of signal handlers break off.
const MOST_TRIES: u32 = 8;

/// So often at most `raise_pending` has the interpreter call it again later, in the code that runs by then.
const LONGEST_POSTPONED: u32 = 10_000;

thread_local! {
    static KEPT: Leaky<PyErr> = const { Leaky::new() };
    static PASSING: Leaky<Passing> = const { Leaky::new() };
}

/// For an error out of Python code of ours that raises nothing by itself: so in the main thread it is a signal
/// handler's, and is kept. In another thread it is reported. Returns whether it was kept.
pub fn keep(py: Python<'_>, error: PyErr) -> bool {
    if !process::is_main_thread(py) {
        error.write_unraisable(py, None);
        return false;
    }
    // Of two, the later one is kept, as if it had been raised while the first one travelled up the stack.
    drop(KEPT.with(|kept| kept.replace(Some(error))));
    true
}

/// For a step of ours that Python's stack had no room for: the operation under way in this thread raises that.
pub fn keep_no_room(error: PyErr) {
    drop(KEPT.with(|kept| kept.replace(Some(error))));
}

/// For an error out of code that may raise an `Exception` by itself: that is reported. Any other error
/// (KeyboardInterrupt, SystemExit) is taken for a handler's, and kept.
pub fn keep_unless_exception(py: Python<'_>, error: PyErr) {
    if error.is_instance_of::<PyException>(py) {
        error.write_unraisable(py, None);
    } else {
        let _ = keep(py, error);
    }
}

/// Makes a short step that must not be left undone. Keeps what a signal handler raises in it, and tries again.
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

/// The same for a step that may raise an error by itself.
pub fn unbroken<T>(py: Python<'_>, step: impl Fn() -> PyResult<T>) -> PyResult<T> {
    for _ in 0..MOST_TRIES {
        match step() {
            Err(error) if are_handlers(py, &error) => drop(keep(py, error)),
            ended => return ended,
        }
    }
    step()
}

/// The answer to a question that should not fail: no, if it does. Keeps what a signal handler raises in it, and asks
/// again.
pub fn ask(py: Python<'_>, question: impl Fn() -> PyResult<bool>) -> bool {
    let answer = || match question() {
        Err(error) if error.is_instance_of::<PyRecursionError>(py) => Ok(false),
        answer => answer,
    };
    if process::is_main_thread(py) { through(py, answer) } else { answer().ok() }.unwrap_or(false)
}

/// Whether a signal handler raised this error, which came out of a loop that the main thread drives, and may come
/// from a background task as well. `KeyboardInterrupt` always counts as a handler's; for others the traceback tells.
pub fn are_handlers(py: Python<'_>, error: &PyErr) -> bool {
    process::is_main_thread(py)
        && (error.is_instance_of::<PyKeyboardInterrupt>(py) || ask(py, || runs_through_handler(py, error)))
}

/// For an error that nobody raises: keeps it if it is a signal handler's; `otherwise` sees to it if not.
pub fn keep_or(py: Python<'_>, error: &PyErr, otherwise: impl FnOnce(&PyErr)) {
    if are_handlers(py, error) {
        let _ = keep(py, error.clone_ref(py));
    } else {
        otherwise(error);
    }
}

/// As `are_handlers`, for Python code of ours.
#[pyfunction]
pub fn is_of_handler(error: &Bound<'_, PyAny>) -> bool {
    are_handlers(error.py(), &PyErr::from_value(error.clone()))
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

/// The text of an object. While it is made, signal handlers may raise: see `keep_unless_exception`. Then it is made
/// again.
pub fn text_of(object: &Bound<'_, PyAny>) -> String {
    shown(object, || object.str())
}

/// The same for an object that may have none. Then nothing is reported.
pub fn text_if_any(object: &Bound<'_, PyAny>) -> Option<String> {
    text_from(object.py(), || object.str()).ok()
}

/// The same for its `repr`.
pub fn repr_of(object: &Bound<'_, PyAny>) -> String {
    shown(object, || object.repr())
}

fn shown<'py>(object: &Bound<'py, PyAny>, text: impl Fn() -> PyResult<Bound<'py, PyString>>) -> String {
    text_from(object.py(), text).unwrap_or_else(|error| {
        keep_unless_exception(object.py(), error);
        errors::type_name(object)
    })
}

fn text_from<'py>(py: Python<'py>, text: impl Fn() -> PyResult<Bound<'py, PyString>>) -> PyResult<String> {
    for _ in 0..MOST_TRIES {
        match text() {
            Err(error) if process::is_main_thread(py) && !error.is_instance_of::<PyException>(py) => {
                let _ = keep(py, error);
            }
            text => return Ok(text?.to_string_lossy().into_owned()),
        }
    }
    Ok(text()?.to_string_lossy().into_owned())
}

/// Whether something waits to be raised.
pub fn are_kept() -> bool {
    KEPT.with(Leaky::is_some)
}

/// Raises what was kept.
pub fn raise_kept() -> PyResult<()> {
    KEPT.with(Leaky::take).map_or(Ok(()), Err)
}

/// Raises what was kept. If nothing was, runs the handlers of pending signals, and raises what they raise.
pub fn check(py: Python<'_>) -> PyResult<()> {
    raise_kept()?;
    py.check_signals()
}

/// Runs the handlers of pending signals, and keeps what they raise. The next Python code would run them, which may be
/// what Python lets no error out of: the callback of a weak reference, a finalizer.
pub fn keep_pending(py: Python<'_>) {
    if let Err(error) = py.check_signals() {
        let _ = keep(py, error);
    }
}

/// The end of an operation: raises what was kept in it (by 1), whatever else it raises.
pub fn ended<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
    check(py).and(result)
}

/// The same for an operation that may be refused before it has begun: where it raises. One that has begun sees to its end
/// by itself.
pub fn ended_or_refused<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
    result.or_else(|error| ended(py, Err(error)))
}

/// As `check`, and also raises what another thread has raised in this one by `PyThreadState_SetAsyncExc`, as job
/// runners and test tools do for time limits. Python raises that only where it executes Python code. A waiting thread
/// executes none, so this calls an empty function.
pub fn check_all(py: Python<'_>) -> PyResult<()> {
    static NOTHING: Once<Py<PyAny>> = Once::new();
    check(py)?;
    let nothing =
        NOTHING.get_or_try_init(py, || Ok(py.eval(c"lambda: None", Some(&PyDict::new(py)), None)?.unbind()))?;
    nothing.call0(py).map(drop)
}

/// For an error that came out of a loop's turn: whether it is meant for the thread that drives the loop, and does not
/// come from a background task or a callback. Of what tasks and callbacks raise, asyncio lets only KeyboardInterrupt
/// and SystemExit out. A signal handler or another thread may have raised these, too, so the traceback has to tell.
pub fn concerns_driver(py: Python<'_>, error: &PyErr) -> bool {
    let is_usual = error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
    !is_usual || are_handlers(py, error) || !ask(py, || comes_from_callback(py, error))
}

/// Whether the traceback shows the frame in which asyncio, or uvloop, runs callbacks.
fn comes_from_callback(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    traceback_shows(py, error, |code| {
        Ok(code.getattr(intern!(py, "co_qualname"))?.extract::<String>()?.ends_with("Handle._run"))
    })
}

/// By 1: passes what is kept on to the interpreter, at the end of an operation that can't raise it.
pub fn pass_on(py: Python<'_>) {
    pass_on_until(py, false);
}

/// The same for the error that such an operation would raise.
pub fn keep_and_pass_on(py: Python<'_>, error: PyErr) {
    let _ = keep(py, error);
    pass_on(py);
}

/// As `pass_on`, for what is to be raised outside of the code that runs now.
pub fn pass_on_outside(py: Python<'_>) {
    pass_on_until(py, true);
}

fn pass_on_until(py: Python<'_>, is_left: bool) {
    if are_kept() {
        let passing = running_frame(py).map(|frame| Passing { frame: frame.unbind(), is_left, postponed: 0 });
        drop(PASSING.with(|known| known.replace(passing)));
        add_pending(py);
    }
}

/// For a finalizer, which can't raise anything: what a signal handler raises in its work is passed on.
pub fn in_finalizer(py: Python<'_>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let ended = match work() {
        Err(error) if are_handlers(py, &error) => {
            let _ = keep(py, error);
            Ok(())
        }
        ended => ended,
    };
    pass_on(py);
    ended
}

/// The frame of Python code that runs now, or has called what runs now. Not `sys._getframe`: where a frame that C code has
/// called is freed, and with it what it had, Python 3.12 takes an entry of the C stack for a frame there.
fn running_frame(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: attached.
    let frame = unsafe { ffi::PyEval_GetFrame() };
    // SAFETY: a borrowed reference, or null.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, frame.cast()) }
}

fn add_pending(py: Python<'_>) {
    // SAFETY: attached; `raise_pending` has the signature of a pending call and uses no argument.
    let failed = unsafe { ffi::Py_AddPendingCall(Some(raise_pending), std::ptr::null_mut()) };
    if failed != 0
        && let Some(error) = KEPT.with(Leaky::take)
    {
        // The interpreter has room for a fixed number of pending calls, and none was free.
        error.write_unraisable(py, None);
    }
}

/// Where what is kept was passed on.
struct Passing {
    /// The frame whose code ran then.
    frame: Py<PyAny>,
    /// Whether that code is to be left before it is raised.
    is_left: bool,
    postponed: u32,
}

/// Whether the code that runs now is a finalizer, or was called, in the middle of one operation, by the code that ran
/// when the error was passed on: such as the callback of a weak reference. Out of these Python lets no error. They soon
/// return.
fn is_to_be_postponed(py: Python<'_>) -> bool {
    let Some(Passing { frame, is_left, postponed }) = PASSING.with(Leaky::take) else { return false };
    let is_below = || -> PyResult<bool> {
        let Some(top) = running_frame(py) else { return Ok(false) };
        let mut at = top.clone();
        while !at.is_none() && !at.is(&frame) {
            if at.getattr(intern!(py, "f_code"))?.getattr(intern!(py, "co_name"))?.eq("__del__")? || is_weakrefs(&at)? {
                return Ok(true);
            }
            at = at.getattr(intern!(py, "f_back"))?;
        }
        Ok(at.is(&frame) && (is_left || !top.is(&frame)))
    };
    if postponed == LONGEST_POSTPONED || !is_below().unwrap_or(false) {
        return false;
    }
    drop(PASSING.with(|known| known.replace(Some(Passing { frame, is_left, postponed: postponed + 1 }))));
    true
}

/// Whether a frame is of a collection of weak references, as the callbacks are by which these forget what is freed.
fn is_weakrefs(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = frame.py();
    let module =
        frame.getattr(intern!(py, "f_globals"))?.call_method1(intern!(py, "get"), (intern!(py, "__name__"),))?;
    Ok(module.eq("_weakrefset")? || module.eq("weakref")?)
}

/// Raises what is kept; the interpreter calls it in the main thread, as one of its pending calls.
extern "C" fn raise_pending(_: *mut c_void) -> c_int {
    // SAFETY: the interpreter makes its pending calls attached.
    let py = unsafe { Python::assume_attached() };
    if are_kept() && is_to_be_postponed(py) {
        add_pending(py);
        return 0;
    }
    match KEPT.with(Leaky::take) {
        Some(error) => {
            error.restore(py);
            -1
        }
        None => 0,
    }
}
