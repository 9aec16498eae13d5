//! Starting a task for Python code of ours: a call of `map` or of a group.

use super::making::{go_on_in_new_task, make_task, real_error};
use super::revival::revived;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::switch::nestable;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;

thread_local! {
    /// The coroutine for which `start_task` makes a task in this thread; null if it is not at it.
    static STARTING: Cell<*const ffi::PyObject> = const { Cell::new(std::ptr::null()) };
    /// The coroutine of the call for which a task is made in this thread.
    static MAKING: Cell<*const ffi::PyObject> = const { Cell::new(std::ptr::null()) };
}

/// Makes a task for the coroutine of a call, which hears of it if that is broken off.
pub fn make_for_call<T>(coroutine: &Bound<'_, PyAny>, make: impl FnOnce() -> T) -> T {
    let outer = MAKING.replace(coroutine.as_ptr());
    let made = make();
    MAKING.set(outer);
    made
}

/// Whether `start_task` is at it in this thread. What ends the program, out of a first step, leaves no task there: so
/// asyncio finds that nobody has asked that task for its exception, which whoever starts it gets instead.
pub fn is_starting() -> bool {
    !STARTING.get().is_null()
}

/// Whether this is the coroutine of the task that is being started, or made for a call. If such a task goes while it is
/// pending, its making was broken off, and whoever starts it knows.
pub fn starts(coroutine: &Bound<'_, PyAny>) -> bool {
    [STARTING.get(), MAKING.get()].into_iter().any(|known| std::ptr::eq(known, coroutine.as_ptr()))
}

/// Starts a coroutine in a task of its own, on Python 3.12 and newer with its first step.
/// `watch` makes of what the task is to run another coroutine, which makes the steps of that.
#[pyfunction]
#[pyo3(signature = (event_loop, coroutine, context, watch=None))]
pub fn start_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
    watch: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut coroutine = nestable::for_task_here(coroutine)?;
    if let Some(watch) = watch {
        coroutine = watch.call1((coroutine,))?;
    }
    let _inside = process::step_inside_unless_left(event_loop.py());
    let outer = STARTING.replace(coroutine.as_ptr());
    let context = context.unbind();
    let started = make_task(event_loop, &coroutine, &context);
    STARTING.set(outer);
    started.map_err(|error| broken_off(event_loop, &coroutine, &context, error))
}

/// The error of a task that could not be started. What a signal handler raised where the task, after its first step,
/// asked for its next one, or was to be registered, leaves a coroutine that has not ended: its task, or another one, has
/// it clean up.
fn broken_off(event_loop: &Bound<'_, PyAny>, coroutine: &Bound<'_, PyAny>, context: &Py<PyAny>, error: PyErr) -> PyErr {
    let py = event_loop.py();
    let error = real_error(py, error);
    let has_not_ended = || match coroutine.getattr_opt(intern!(py, "cr_frame"))? {
        Some(frame) => Ok(!frame.is_none()),
        None => Ok(false),
    };
    if signals::are_handlers(py, &error) && signals::ask(py, has_not_ended) {
        signals::through(py, || {
            let task = match task_of(coroutine)? {
                Some(task) => {
                    let task = revived(event_loop, &task)?.unwrap_or(task);
                    names::register_task(py)?.call1((&task,))?;
                    task
                }
                None => go_on_in_new_task(event_loop, coroutine, Some(context))?,
            };
            task.call_method0(intern!(py, "cancel")).map(drop)
        });
    }
    error
}

/// A task for the coroutine, which begins in the loop's next turn, though a signal handler may raise meanwhile.
pub fn start_surely<'py>(event_loop: &Bound<'py, PyAny>, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let start = || make_for_call(coroutine, || go_on_in_new_task(event_loop, coroutine, None));
    let error = match start().map_err(|error| real_error(py, error)) {
        Err(error) if signals::are_handlers(py, &error) => error,
        started => return started,
    };
    let started = signals::unbroken(py, || match task_of(coroutine)? {
        Some(task) => Ok(revived(event_loop, &task)?.unwrap_or(task)),
        None => start(),
    });
    let _ = signals::keep(py, error);
    started
}

/// The task of a coroutine that is suspended, if it is alive: its next step, what it waits for, or a traceback keeps it.
fn task_of<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = coroutine.py();
    for object in names::get_referrers(py)?.call1((coroutine,))?.try_iter()? {
        let object = object?;
        if object.is_instance(names::task(py)?)? && object.call_method0(intern!(py, "get_coro"))?.is(coroutine) {
            return Ok(Some(object));
        }
    }
    Ok(None)
}
