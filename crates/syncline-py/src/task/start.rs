//! Making the task of a call, on its loop's thread.

use crate::call::state::{Call, Outcome};
use crate::call::wait::cancelled_error;
use crate::coroutine::target::Target;
use crate::python::names;
use crate::python::once::intern;
use crate::task::bridged::BridgedCoroutine;
use crate::task::loops;
use crate::task::session::Session;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Where a call's target runs.
pub enum RunIn {
    /// In a task of its own, in this context.
    Task(Py<PyAny>),
    /// As the next step of a session, or as its last.
    Session { session: Arc<Session>, is_last: bool },
}

impl RunIn {
    /// Whether it is begun though nobody waits any more: its last step is what ends a session.
    fn is_due_anyway(&self) -> bool {
        matches!(self, Self::Session { is_last: true, .. })
    }

    pub fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }
}

/// Starts the call in a task of `event_loop`, which runs in this thread. The first step is over when this returns: of a
/// task where tasks can start eagerly, of a session's if `enters` (see there).
pub fn start_call(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    run_in: RunIn,
    enters: bool,
) -> PyResult<()> {
    let py = event_loop.py();
    if call.is_abandoned() && !run_in.is_due_anyway() {
        // Its caller is gone, and what it was told is that the call did not end.
        target.discard(py);
        call.settle(py, Outcome::Raised(cancelled_error(py)));
        return Ok(());
    }
    match run_in {
        RunIn::Session { session, is_last } => {
            if let Err(error) = session.begin(event_loop, call, target, is_last, enters) {
                call.settle(py, Outcome::Raised(error));
            }
        }
        RunIn::Task(context) => {
            let coroutine = Bound::new(py, BridgedCoroutine::new(Arc::clone(call), target, loops::owner(event_loop)))?;
            match make_task(event_loop, coroutine.as_any(), &context) {
                Ok(task) => call.suspended_in(task),
                Err(error) => {
                    coroutine.call_method0(intern!(py, "close"))?;
                    call.settle(py, Outcome::Raised(error));
                }
            }
        }
    }
    Ok(())
}

pub fn make_task<'py>(
    event_loop: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "context"), context)?;
    if loops::has_task_factory(event_loop)? {
        // The user's factory decides, eager ones included: this is the loop's own thread.
        return event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&options));
    }
    options.set_item(intern!(py, "loop"), event_loop)?;
    if names::has_eager_tasks(py) {
        options.set_item(intern!(py, "eager_start"), true)?;
    }
    names::task(py)?.call((coroutine,), Some(&options))
}
