//! How a loop ends: tasks cancelled, async generators finalized, each within a bound.

use crate::call::state::Call;
use crate::python::names;
use crate::python::once::intern;
use crate::switch::nestable;
use crate::task::bridged::BridgedCoroutine;
use crate::task::session::SessionCoroutine;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What async generators have at least, as most end at once when they are told to.
const LEAST_LEFT: Duration = Duration::from_millis(100);

/// Cancels a loop's tasks and waits for them, within `bound`; then ends sessions that are idle and finalizes async
/// generators, within `bound` together.
pub fn clean_up(py: Python<'_>, event_loop: &Bound<'_, PyAny>, bound: Duration, name: &str) -> PyResult<()> {
    let tasks = names::all_tasks(py)?.call1((event_loop,))?;
    let (cancelled, cleaning, idle) = (PySet::empty(py)?, PySet::empty(py)?, PySet::empty(py)?);
    for task in tasks.try_iter()? {
        let task = task?;
        // A session that is idle has nothing to be cancelled; in the middle of a step it ends after that.
        if let Some(session) = session_of(&task) {
            if session.get().session.is_idle() {
                idle.add(task)?;
                continue;
            }
            session.get().session.end_after_this_step();
        }
        match call_of(&task) {
            Some(call) if call.knows_of_closing() => {}
            Some(call) if call.was_cancelled() => cleaning.add(&task)?,
            _ => drop(task.call_method0(intern!(py, "cancel"))?),
        }
        cancelled.add(task)?;
    }
    let left = let_clean_up(event_loop, &cleaning, bound)?;
    wait_for_all(event_loop, &cancelled, left, name)?;
    let begun = Instant::now();
    for task in &idle {
        if let Some(session) = session_of(&task) {
            session.get().session.end_by_closer(py)?;
        }
    }
    wait_for_all(event_loop, &idle, bound, name)?;
    let finalized = event_loop.call_method0(intern!(py, "shutdown_asyncgens"))?;
    let left = bound.saturating_sub(begun.elapsed()).max(LEAST_LEFT);
    run_to_end(event_loop, names::wait_for(py)?.call1((finalized, left.as_secs_f64()))?).map(drop)
}

/// Gives tasks that were cancelled shortly before half of the time to clean up, as to be cancelled again would break that
/// off. Returns what is left of the time.
fn let_clean_up(event_loop: &Bound<'_, PyAny>, cleaning: &Bound<'_, PySet>, bound: Duration) -> PyResult<Duration> {
    if cleaning.is_empty() {
        return Ok(bound);
    }
    let py = cleaning.py();
    let options = PyDict::new(py);
    options.set_item("timeout", (bound / 2).as_secs_f64())?;
    let both = run_to_end(event_loop, names::asyncio_wait(py)?.call((cleaning,), Some(&options))?)?;
    for task in both.get_item(1)?.try_iter()? {
        task?.call_method0(intern!(py, "cancel"))?;
    }
    Ok(bound / 2)
}

/// The call that a task of ours is at.
fn call_of(task: &Bound<'_, PyAny>) -> Option<Arc<Call>> {
    if let Some(session) = session_of(task) {
        return session.get().session.current_call();
    }
    let coroutine = task.call_method0(intern!(task.py(), "get_coro")).ok()?;
    coroutine.cast_into::<BridgedCoroutine>().ok().map(|coroutine| Arc::clone(coroutine.get().call()))
}

fn session_of<'py>(task: &Bound<'py, PyAny>) -> Option<Bound<'py, SessionCoroutine>> {
    let coroutine = task.call_method0(intern!(task.py(), "get_coro")).ok()?;
    coroutine.cast_into::<SessionCoroutine>().ok()
}

fn wait_for_all(event_loop: &Bound<'_, PyAny>, tasks: &Bound<'_, PySet>, bound: Duration, name: &str) -> PyResult<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let py = tasks.py();
    let seconds = bound.as_secs_f64();
    let options = PyDict::new(py);
    options.set_item("timeout", seconds)?;
    let both = run_to_end(event_loop, names::asyncio_wait(py)?.call((tasks,), Some(&options))?)?;
    for task in both.get_item(0)?.try_iter()? {
        report_failure(event_loop, &task?)?;
    }
    let refused = both.get_item(1)?;
    if refused.is_truthy()? {
        let message = format!(
            "the runner {name:?} ends though these tasks have not, {seconds} s after they were cancelled: {refused:?}"
        );
        names::log(py, "warning", &message, None);
        for task in refused.try_iter()? {
            let task = task?;
            nestable::close_nested(&task);
            // Reported already. A task class that has no such attribute may report it again.
            let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
        }
    }
    Ok(())
}

/// asyncio's word for `loop.stop()` during `run_until_complete`.
fn was_stopped(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py) && error.to_string().contains("stopped before Future completed")
}

/// `run_until_complete`, also after a stop that was still under way.
fn run_to_end<'py>(event_loop: &Bound<'py, PyAny>, coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let task = event_loop.call_method1(intern!(py, "create_task"), (&coroutine,))?;
    loop {
        let result = event_loop.call_method1(intern!(py, "run_until_complete"), (&task,));
        let Err(error) = &result else { return result };
        if task.call_method0(intern!(py, "done"))?.is_truthy()? {
            return result;
        }
        // A loop that can't run any more would fail for ever.
        if error.is_instance_of::<PyException>(py) && !was_stopped(py, error) {
            let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
            coroutine.call_method0(intern!(py, "close"))?;
            return result;
        }
    }
}

/// As `asyncio.run`: an error that a task raised while it was cancelled goes to the exception handler.
fn report_failure(event_loop: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = task.py();
    if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        return Ok(());
    }
    let error = task.call_method0(intern!(py, "exception"))?;
    if error.is_none() {
        return Ok(());
    }
    let what = PyDict::new(py);
    what.set_item("message", "unhandled exception while the loop was closed")?;
    what.set_item("exception", error)?;
    what.set_item("task", task)?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (what,)).map(drop)
}
