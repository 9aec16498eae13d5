//! How calls end, and what their errors mean.

use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::residents;
use crate::python::signals;
use crate::python::surroundings::is_in_trio_task;
use pyo3::exceptions::{PyBaseExceptionGroup, PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

pub enum Outcome<T = Py<PyAny>> {
    Returned(T),
    Raised(PyErr),
}

impl<T> Outcome<T> {
    pub fn into_result(self) -> PyResult<T> {
        match self {
            Self::Returned(value) => Ok(value),
            Self::Raised(error) => Err(error),
        }
    }

    /// The same where it arrives: whoever waited for it raises the error now.
    pub fn arrive(self, py: Python<'_>) -> PyResult<T> {
        self.into_result().inspect_err(|error| errors::note_what_is_handled(py, error))
    }

    pub fn as_result(&self) -> Result<&T, &PyErr> {
        match self {
            Self::Returned(value) => Ok(value),
            Self::Raised(error) => Err(error),
        }
    }
}

/// Whether what ended so has no more to say than a value or an `Exception`: neither `SystemExit` nor a cancellation.
pub fn is_ordinary<T>(py: Python<'_>, outcome: Result<&T, &PyErr>) -> bool {
    outcome.err().is_none_or(|error| error.is_instance_of::<PyException>(py))
}

/// An error that is raised whatever became of a coroutine. If that raised one of its own, it is the context.
pub fn whatever_became<T>(py: Python<'_>, error: PyErr, outcome: Result<&T, &PyErr>) -> PyErr {
    if let Err(own) = outcome
        && !is_cancelled(py, own)
        && !own.value(py).is(error.value(py))
    {
        errors::set_context(error.value(py), errors::object(py, own).into_any());
    }
    error
}

/// Whether a bridge was made that runs coroutines with trio.
pub static HAS_TRIO: AtomicBool = AtomicBool::new(false);

pub fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    names::cancelled_error(py).is_ok_and(|class| error.is_instance(py, class)) || is_trio_cancelled(py, error)
}

/// Whether an error is no news where nobody waits for it: a cancellation, or that with which a closing bridge, or the exit, ends
/// calls. Whoever closes a bridge knows.
pub fn is_no_news(py: Python<'_>, error: &PyErr) -> bool {
    is_cancelled(py, error) || errors::are_of_closing(py, error)
}

/// Whether this is trio's `Cancelled`, or a group of nothing else, which is what a nursery raises.
pub fn is_trio_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    HAS_TRIO.load(Relaxed)
        && names::trio_cancelled(py).is_ok_and(|class| consists_of(error.value(py), class).unwrap_or(false))
}

fn consists_of(error: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !error.is_instance_of::<PyBaseExceptionGroup>() {
        // It has no subclasses. `isinstance` would run Python code, its metaclass being one of `abc`'s.
        return Ok(error.get_type().is(class));
    }
    for part in error.getattr(intern!(error.py(), "exceptions"))?.try_iter()? {
        if !consists_of(&part?, class)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An exception group without the `Cancelled`s of trio's in it, if there is anything else in it. trio's own scopes
/// raise that, too.
pub fn without_trio_cancelled(py: Python<'_>, error: PyErr) -> PyErr {
    if !HAS_TRIO.load(Relaxed) || !error.is_instance_of::<PyBaseExceptionGroup>(py) {
        return error;
    }
    let split = || error.value(py).call_method1(intern!(py, "split"), (names::trio_cancelled(py)?,));
    match signals::unbroken(py, split).and_then(|parts| parts.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()) {
        Ok((cancelled, rest)) if !cancelled.is_none() && !rest.is_none() => PyErr::from_value(rest),
        _ => error,
    }
}

pub fn cancelled_error(py: Python<'_>) -> PyErr {
    match names::cancelled_error(py).and_then(|class| class.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A cancellation, of the library that runs the calling code: asyncio's `CancelledError` or trio's `Cancelled`.
pub fn cancelled_here(py: Python<'_>) -> PyErr {
    match is_in_trio_task(py).and_then(|in_trio| in_trio.then(|| names::trio_new_cancelled(py)?.call0()).transpose()) {
        Ok(Some(error)) => PyErr::from_value(error),
        Ok(None) => cancelled_error(py),
        Err(error) => error,
    }
}

/// Whether this is a cancellation of the library that runs the calling code: then its task ends by it as cancelled.
pub fn is_cancelled_here(py: Python<'_>, error: &PyErr) -> bool {
    is_cancelled(py, error) && is_trio_cancelled(py, error) == signals::ask(py, || is_in_trio_task(py))
}

/// Turns a cancellation that came from another loop, which another library may run, into one of the library that runs
/// the calling code.
pub fn as_cancelled_here(py: Python<'_>, error: PyErr) -> PyErr {
    if is_cancelled_here(py, &error) {
        return error;
    }
    errors::from_cause(py, cancelled_here(py), error)
}

/// Settles a `concurrent.futures.Future`, unless it is done. May be called again if a signal handler has raised
/// something in the middle of it. False if it was cancelled, which is how this call came to its end.
pub fn settle_future(future: &Bound<'_, PyAny>, outcome: &Outcome) -> PyResult<bool> {
    let py = future.py();
    let is = |state: &Bound<'_, PyString>| future.call_method0(state)?.is_truthy();
    if is(intern!(py, "cancelled"))? {
        // Only now: `wait` and `as_completed` wait for whoever has the future to say that it has seen this.
        if future.getattr(intern!(py, "_state"))?.eq("CANCELLED")? {
            future.call_method0(intern!(py, "set_running_or_notify_cancel"))?;
        }
        return Ok(false);
    }
    if is(intern!(py, "done"))? {
        return Ok(true);
    }
    if !is(intern!(py, "running"))? && !is(intern!(py, "set_running_or_notify_cancel"))? {
        return Ok(false);
    }
    match outcome {
        Outcome::Returned(value) => future.call_method1(intern!(py, "set_result"), (value,)),
        Outcome::Raised(error) => {
            if process::has_refused(py, error) {
                future.setattr(intern!(py, "_is_retrieved"), true)?;
            }
            future.call_method1(intern!(py, "set_exception"), (errors::object(py, error),))
        }
    }
    .map(|_| true)
}

/// What asyncio's, aiohttp's and trio's errors about a wrong loop say, or about one that runs already.
const MIXUPS: [&str; 9] = [
    "cannot be called from a running event loop",
    "vent loop is already running",
    "while another loop is running",
    "different loop",
    "different event loop",
    "Event loop is closed",
    "should be used inside a task",
    "no running event loop",
    "must be called from async context",
];

/// asyncio names a wrong loop by its address only; a note says which loop that is and what to do.
pub fn explain_loop_mixup(error: &Bound<'_, PyAny>, awaited: Option<&Bound<'_, PyAny>>) {
    let py = error.py();
    if !error.is_instance_of::<PyRuntimeError>() {
        return;
    }
    let explain = || -> PyResult<()> {
        let text = signals::text_if_any(error);
        if !text.is_some_and(|text| MIXUPS.iter().any(|known| text.contains(known))) {
            return Ok(());
        }
        let note = names::explain_loop_mixup(py)?.call1((error, residents::loop_owners(py)?, awaited))?;
        if !note.is_none() {
            error.call_method1("add_note", (note,))?;
        }
        Ok(())
    };
    // An explanation that fails must not hide what it explains.
    if let Err(failed) = explain() {
        failed.write_unraisable(py, None);
    }
}
