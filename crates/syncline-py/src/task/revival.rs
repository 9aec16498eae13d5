//! Tasks that lost their step.
//!
//! What a signal handler raises may come up in the middle of asyncio's own code: after a loop has taken a task's step
//! off its queue and before it makes the step, where a task that starts eagerly asks for its next step, or where a
//! future that is done asks for the step of the task that waits for it. Then nothing
//! steps that task any more, and a cancellation never gets to it. asyncio alone has this race, too; but our callers
//! wait for the task, and must not wait in vain. So another task takes its place.

use super::bridged::BridgedCoroutine;
use super::session::SessionCoroutine;
use crate::call::state::Call;
use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The error that kept a task from being made. asyncio's C code overlooks an error of the loop's `call_soon`, and ends
/// in a SystemError whose cause is the real one.
pub fn real_error(py: Python<'_>, error: PyErr) -> PyErr {
    match error.cause(py) {
        Some(cause) if error.is_instance_of::<PySystemError>(py) => cause,
        _ => error,
    }
}

/// Has a coroutine of ours that has begun go on in another task, which begins in the loop's next turn.
pub fn go_on_in_new_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "loop"), event_loop)?;
    if let Some(context) = context {
        options.set_item(intern!(py, "context"), context)?;
    }
    names::task(py)?.call((coroutine,), Some(&options))
}

/// If the call's task has lost its step, another one takes its place.
pub fn revive_if_lost(event_loop: &Bound<'_, PyAny>, call: &Call) -> PyResult<()> {
    if let Some(task) = call.task(event_loop.py())
        && let Some(new) = revived(event_loop, &task)?
    {
        call.suspended_in(new);
    }
    Ok(())
}

/// The task that takes the place of one that has lost its step; `None` if it has not.
pub fn revived<'py>(event_loop: &Bound<'py, PyAny>, task: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    if !is_lost(event_loop, task)? {
        return Ok(None);
    }
    let coroutine = task.call_method0(intern!(py, "get_coro"))?;
    // Tasks tell their context in Python 3.12 and later only.
    let context = match task.getattr_opt(intern!(py, "get_context"))? {
        Some(context) => Some(context.call0()?.unbind()),
        None => None,
    };
    let new = go_on_in_new_task(event_loop, &coroutine, context.as_ref())?;
    // The old task stays pending for ever. A loop that ends would wait for it, and asyncio would report it when it is
    // dropped.
    names::unregister_task(py)?.call1((&task,))?;
    let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
    if let Ok(session) = coroutine.cast::<SessionCoroutine>() {
        session.get().session.goes_on_in(&new);
    }
    Ok(Some(new))
}

/// Whether a task waits for nothing any more, and no step of it lies in the loop's queue.
fn is_lost(event_loop: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = task.py();
    let (Some(ready), Some(waiter)) =
        (event_loop.getattr_opt(intern!(py, "_ready"))?, task.getattr_opt(intern!(py, "_fut_waiter"))?)
    else {
        return Ok(false);
    };
    // What it waits for may be done, and the step that was to follow lost.
    let is_over = match waiter.getattr_opt(intern!(py, "done"))? {
        Some(done) => done.call0()?.is_truthy()?,
        None => waiter.is_none(),
    };
    if !is_over || task.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(false);
    }
    for handle in ready.try_iter()? {
        if stepped_by(&handle?)?.is_some_and(|stepped| stepped.is(task)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The task whose step a handle of a loop is, if it is one.
fn stepped_by<'py>(handle: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = handle.py();
    match handle.getattr_opt(intern!(py, "_callback"))? {
        Some(callback) => callback.getattr_opt(intern!(py, "__self__")),
        None => Ok(None),
    }
}

/// For the loop's exception handler, which is given the handle that failed. If that was the step of a call's task, it
/// failed outside of the coroutine (Python's stack was used up, for instance): ends the call by the error, and returns
/// true.
pub fn settle_lost_step(handle: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<bool> {
    let py = handle.py();
    let Some(task) = stepped_by(handle)? else { return Ok(false) };
    let Some(get_coro) = task.getattr_opt(intern!(py, "get_coro"))? else { return Ok(false) };
    let Ok(coroutine) = get_coro.call0()?.cast_into::<BridgedCoroutine>() else { return Ok(false) };
    coroutine.get().fail(py, error.clone_ref(py))?;
    let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
    Ok(true)
}
