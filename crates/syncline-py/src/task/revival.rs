//! Tasks that lost their step.
//!
//! What a signal handler raises may come up in the middle of asyncio's own code: after a loop has taken a task's step
//! off its queue and before it makes the step, where a task that starts eagerly asks for its next step, or where a
//! future that is done asks for the step of the task that waits for it. Then nothing steps that task any more, and a
//! cancellation never gets to it. asyncio alone has this race, too; but our callers wait for the task, or for one that
//! waits for it, and must not wait in vain. So the task is given another step. From Python 3.15 on, where a task can't be
//! initialized again, another task takes its place, if our caller waits for that very task or the loop ends.

use super::bridged::BridgedCoroutine;
use super::making::go_on_in_new_task;
use super::session_task::SessionCoroutine;
use crate::call::state::Call;
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::version;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What a signal handler raised came out of a turn of the loop: gives all tasks that have lost their step another one, and tells
/// task groups that have lost sight of a task's end.
pub fn revive_lost(event_loop: &Bound<'_, PyAny>) {
    let py = event_loop.py();
    let tasks = || names::all_tasks(py)?.call1((event_loop,))?.try_iter()?.collect::<PyResult<Vec<_>>>();
    let healed = signals::unbroken(py, || names::heal_groups(py)?.call1((event_loop,)).map(drop));
    let revived = signals::unbroken(py, tasks).and_then(|tasks| {
        tasks.iter().try_for_each(|task| {
            let is_lost = signals::unbroken(py, || Ok(can_step_again(task)? && is_lost(event_loop, task)?))?;
            if is_lost { step_again(event_loop, task) } else { Ok(()) }
        })
    });
    if let Err(error) = healed.and(revived) {
        log::log(py, "error", "tasks that a signal may have interrupted could not be looked at", Some(&error));
    }
}

fn can_step_again(task: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(version::minor() < 15 && task.is_instance(names::task(task.py())?)?)
}

/// Has the loop make a step of a task that has lost it. asyncio's tasks ask for one when they are initialized.
fn step_again(event_loop: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let callbacks: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = match task.getattr(intern!(py, "_callbacks"))? {
        none if none.is_none() => Vec::new(),
        callbacks => callbacks.extract()?,
    };
    let is_to_be_cancelled = task.getattr(intern!(py, "_must_cancel"))?.is_truthy()?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "loop"), event_loop)?;
    options.set_item(intern!(py, "name"), task.call_method0(intern!(py, "get_name"))?)?;
    if let Some(context) = context_of(task)? {
        options.set_item(intern!(py, "context"), context)?;
    }
    let coroutine = task.call_method0(intern!(py, "get_coro"))?;
    let initialize = names::task(py)?.getattr(intern!(py, "__init__"))?;
    signals::unbroken(py, || {
        if is_lost(event_loop, task)? {
            initialize.call((task, &coroutine), Some(&options))?;
        }
        Ok(())
    })?;
    for (callback, context) in callbacks {
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), context)?;
        task.call_method(intern!(py, "add_done_callback"), (callback,), Some(&options))?;
    }
    if is_to_be_cancelled {
        task.call_method0(intern!(py, "cancel"))?;
    }
    Ok(())
}

/// The task's context. Tasks tell it in Python 3.12 and later only.
fn context_of<'py>(task: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    task.getattr_opt(intern!(task.py(), "get_context"))?.map(|context| context.call0()).transpose()
}

/// If the call's task has lost its step, it gets another one, or another task takes its place.
pub fn revive_if_lost(event_loop: &Bound<'_, PyAny>, call: &Call) -> PyResult<()> {
    if let Some(task) = call.task(event_loop.py())
        && let Some(new) = revived(event_loop, &task)?
    {
        call.suspended_in(new);
    }
    Ok(())
}

/// The same for any task. Returns the one that takes its place, if one does.
pub fn revived<'py>(event_loop: &Bound<'py, PyAny>, task: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    if !is_lost(event_loop, task)? {
        return Ok(None);
    }
    if can_step_again(task)? {
        return step_again(event_loop, task).map(|()| None);
    }
    let coroutine = task.call_method0(intern!(py, "get_coro"))?;
    let context = context_of(task)?.map(Bound::unbind);
    let new = go_on_in_new_task(event_loop, &coroutine, context.as_ref())?;
    // The old task stays pending for ever. A loop that ends would wait for it, and asyncio would report it when it is
    // dropped.
    names::unregister_task(py)?.call1((task,))?;
    let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
    if let Some(session) = coroutine.cast::<SessionCoroutine>().ok().and_then(|coroutine| coroutine.get().session()) {
        session.goes_on_in(&new);
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
