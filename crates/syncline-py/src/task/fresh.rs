//! A task that is made for one call.

use super::bridged::BridgedCoroutine;
use super::loops;
use super::making::{go_on_in_new_task, make_task, real_error};
use super::starting::make_for_call;
use crate::call::caller::{note_call, serve_asgiref};
use crate::call::state::Call;
use crate::coroutine::target::Target;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;

/// Makes a task for the call.
pub fn start_task(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    context: &Py<PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    serve_asgiref(context.bind(py), call)?;
    if !loops::tells_of_tasks(event_loop) {
        note_call(context.bind(py), call)?;
    }
    let coroutine = Bound::new(py, BridgedCoroutine::new(Arc::clone(call), target, loops::owner(event_loop)))?;
    match make_for_call(&coroutine, || make_task(event_loop, coroutine.as_any(), context)) {
        Ok(task) => {
            call.suspended_in(task);
            Ok(())
        }
        Err(error) => task_was_lost(event_loop, call, &coroutine, context, error),
    }
}

/// What keeps a task from being made, or from beginning, ends the call.
pub fn task_was_lost(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    coroutine: &Bound<'_, BridgedCoroutine>,
    context: &Py<PyAny>,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    let error = real_error(py, error);
    if signals::are_handlers(py, &error) && coroutine.get().has_begun(py) {
        // What a signal handler has raised is for the caller, whose wait keeps it, and cancels what has begun. To be
        // cancelled the coroutine needs a task.
        let task = go_on_in_new_task(event_loop, coroutine.as_any(), Some(context))?;
        call.suspended_in(task);
        let _ = signals::keep(py, error);
        return Ok(());
    }
    coroutine.get().fail(py, error)
}
