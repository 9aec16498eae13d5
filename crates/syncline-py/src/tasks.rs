//! Making the task of a call, on its loop's thread.

use crate::call::{Call, Outcome};
use crate::names;
use crate::shim::BridgedCoroutine;
use crate::target::Target;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Starts the call as a task of `event_loop`, which runs in this thread. Where tasks can start eagerly the first step
/// is over when this returns.
pub fn start(
    py: Python<'_>,
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    context: &Py<PyAny>,
) -> PyResult<()> {
    let coroutine = Bound::new(py, BridgedCoroutine::new(Arc::clone(call), target))?;
    let made = make(py, event_loop, coroutine.as_any(), context);
    match made {
        Ok(task) => call.suspended_in(task),
        Err(error) => {
            coroutine.call_method0(intern!(py, "close"))?;
            call.settle(py, Outcome::Raised(error));
        }
    }
    Ok(())
}

fn make<'py>(
    py: Python<'py>,
    event_loop: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: &Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(py);
    options.set_item(intern!(py, "context"), context)?;
    if !event_loop.call_method0(intern!(py, "get_task_factory"))?.is_none() {
        // The user's factory decides, eager ones included: this is the loop's own thread.
        return event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&options));
    }
    options.set_item(intern!(py, "loop"), event_loop)?;
    if names::has_eager_tasks(py) {
        options.set_item(intern!(py, "eager_start"), true)?;
    }
    names::task(py)?.call((coroutine,), Some(&options))
}
