//! Starting a call on its loop's thread.

use super::bridged::BridgedCoroutine;
use super::loops;
use super::making::make_task;
use super::revival::{go_on_in_new_task, real_error};
use super::session::Session;
use crate::call::caller::{note_call, serve_asgiref};
use crate::call::outcome::{Outcome, cancelled_error};
use crate::call::state::Call;
use crate::coroutine::target::Target;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;

/// Where a call's target runs.
pub enum RunIn {
    /// In a task of its own, in this context.
    Task(Py<PyAny>),
    /// As the next step of a session, or as its last.
    Session { session: Arc<Session>, is_last: bool },
}

impl RunIn {
    /// Whether it is begun even if nobody waits for it any more. A session's last step is: it ends the session.
    fn is_due_anyway(&self) -> bool {
        matches!(self, Self::Session { is_last: true, .. })
    }

    pub fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }
}

/// Starts the call in a task of `event_loop`, which runs in this thread. When this returns, the first step has been
/// made if tasks can start eagerly (Python 3.12 and later), a session's step if `enters` (see `Session::begin`). An
/// error settles the call.
pub fn start_call(event_loop: &Bound<'_, PyAny>, call: &Arc<Call>, target: Target, run_in: RunIn, enters: bool) {
    let py = event_loop.py();
    if call.is_abandoned() && !run_in.is_due_anyway() {
        // Its caller has gone on without it, and been told that the call did not end: so it must not begin now.
        target.discard(py);
        call.settle(py, Outcome::Raised(cancelled_error(py)));
        return;
    }
    let started = match run_in {
        RunIn::Session { session, is_last } => session.begin(event_loop, call, target, is_last, enters),
        RunIn::Task(context) => start_task(event_loop, call, target, &context),
    };
    if let Err(error) = started {
        call.settle(py, Outcome::Raised(error));
    }
}

fn start_task(event_loop: &Bound<'_, PyAny>, call: &Arc<Call>, target: Target, context: &Py<PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    serve_asgiref(context.bind(py), call)?;
    if !loops::tells_of_tasks(event_loop) {
        note_call(context.bind(py), call)?;
    }
    let coroutine = Bound::new(py, BridgedCoroutine::new(Arc::clone(call), target, loops::owner(event_loop)))?;
    match make_task(event_loop, coroutine.as_any(), context) {
        Ok(task) => {
            call.suspended_in(task);
            Ok(())
        }
        Err(error) => {
            let error = real_error(py, error);
            if signals::are_handlers(py, &error) && coroutine.get().has_begun(py) {
                // What a signal handler has raised is for the caller, whose wait keeps it, and cancels what has begun.
                // To be cancelled the coroutine needs a task.
                let task = go_on_in_new_task(event_loop, coroutine.as_any(), Some(context))?;
                call.suspended_in(task);
                let _ = signals::keep(py, error);
                return Ok(());
            }
            coroutine.get().fail(py, error)
        }
    }
}
