//! Starting a call on its loop's thread.

use super::fresh::start_task;
use super::session::Session;
use super::session_task;
use super::spare::SpareTask;
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
/// made if tasks can start eagerly (Python 3.12 and later), a session's step if `enters` (see `Session::step`). An
/// error settles the call.
pub fn start_call(event_loop: &Bound<'_, PyAny>, call: &Arc<Call>, target: Target, run_in: RunIn, enters: bool) {
    start(event_loop, call, target, run_in, enters, None);
}

/// The same on a loop that has a spare task, with the first step.
pub fn start_call_with_step(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    run_in: RunIn,
    spare: &SpareTask,
) {
    start(event_loop, call, target, run_in, true, Some(spare));
}

fn start(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    run_in: RunIn,
    enters: bool,
    spare: Option<&SpareTask>,
) {
    let py = event_loop.py();
    if call.is_unwanted() && !run_in.is_due_anyway() {
        // Its caller has gone on without it, or is about to, and is told that the call did not end: so it must not begin.
        target.discard(py);
        call.settle(py, Outcome::Raised(cancelled_error(py)));
        return;
    }
    let started = match run_in {
        RunIn::Session { session, is_last } => {
            let spare = spare.map(|spare| &*spare.sessions);
            session_task::begin(event_loop, call, target, &session, is_last, enters, spare)
        }
        RunIn::Task(context) => match spare {
            Some(spare) => spare.start(event_loop, call, target, &context),
            None => start_task(event_loop, call, target, &context),
        },
    };
    if let Err(error) = started {
        let has_begun = call.is_settled() || call.task(py).is_some();
        if has_begun && call.is_driven_by_its_thread() && signals::are_handlers(py, &error) {
            // It came in the loop's own code, after the step. The caller's wait raises it, and cancels what has begun.
            let _ = signals::keep(py, error);
            return;
        }
        call.settle(py, Outcome::Raised(error));
    }
}
