//! How a loop ends: open sessions left, tasks cancelled, async generators finalized, each within a bound.
//!
//! Invariants:
//! 1. The first signal is raised when the loop has been cleaned up; the second ends that.

use crate::call::outcome::Outcome;
use crate::call::state::Call;
use crate::call::wait::{Awaited, Fate, Wait};
use crate::python::errors;
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::switch::nestable;
use crate::task::bridged::BridgedCoroutine;
use crate::task::session::SessionCoroutine;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes last has at least that long, as most of it ends at once when it is told to.
const LEAST_LEFT: Duration = Duration::from_millis(100);

/// Ends what is left on a loop, in its own thread: within `bound` open sessions and tasks, within another one async
/// generators. `wait` hears signals.
pub fn clean_up(
    py: Python<'_>,
    event_loop: &Bound<'_, PyAny>,
    bound: Duration,
    name: &str,
    wait: &mut Wait,
) -> PyResult<()> {
    let begun = Instant::now();
    let mut cleanup = Cleanup { event_loop, name, wait };
    let sessions = cleanup.end_idle_sessions()?;
    // What they hold open may be what other tasks need to end; or it is the other way round.
    cleanup.wait_for(&sessions, if cleanup.tasks()?.len() > sessions.len() { bound / 2 } else { bound })?;
    cleanup.cancel_tasks(&sessions, bound.saturating_sub(begun.elapsed()), bound)?;
    let finalized = event_loop.call_method0(intern!(py, "shutdown_asyncgens"))?;
    let left = (bound * 2).saturating_sub(begun.elapsed()).min(bound).max(LEAST_LEFT);
    cleanup.run(names::wait_for(py)?.call1((finalized, left.as_secs_f64()))?)?;
    cleanup.wait.raise_signal(py)
}

struct Cleanup<'a, 'py> {
    event_loop: &'a Bound<'py, PyAny>,
    name: &'a str,
    wait: &'a mut Wait,
}

impl<'py> Cleanup<'_, 'py> {
    fn tasks(&self) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let tasks = names::all_tasks(self.event_loop.py())?.call1((self.event_loop,))?;
        tasks.try_iter()?.collect()
    }

    /// Has sessions that are between two steps leave what they hold open.
    fn end_idle_sessions(&mut self) -> PyResult<Bound<'py, PySet>> {
        let idle = PySet::empty(self.event_loop.py())?;
        for task in self.tasks()? {
            if let Some(session) = session_of(&task).filter(|session| session.get().session.is_idle()) {
                session.get().session.end_by_closer(task.py())?;
                idle.add(task)?;
            }
        }
        Ok(idle)
    }

    /// Cancels all tasks but the sessions that leave by themselves, and waits for both.
    fn cancel_tasks(&mut self, sessions: &Bound<'py, PySet>, left: Duration, bound: Duration) -> PyResult<()> {
        let py = self.event_loop.py();
        let (ending, cleaning) = (sessions.call_method0(intern!(py, "copy"))?.cast_into::<PySet>()?, PySet::empty(py)?);
        for task in self.tasks()? {
            if sessions.contains(&task)? {
                continue;
            }
            if let Some(session) = session_of(&task) {
                session.get().session.end_after_this_step();
            }
            match call_of(&task) {
                Some(call) if call.knows_of_closing() => {}
                Some(call) if call.was_cancelled() => cleaning.add(&task)?,
                _ => cancel(&task),
            }
            ending.add(task)?;
        }
        let begun = Instant::now();
        // Those that were cancelled shortly before have half of the time: to be cancelled again would break their cleanup
        // off.
        let (_, refused) = self.wait_for(&cleaning, left / 2)?;
        for task in &refused {
            cancel(task);
        }
        let (ended, refused) = self.wait_for(&ending, left.saturating_sub(begun.elapsed()))?;
        self.report_failures(&ended)?;
        if refused.is_empty() {
            return Ok(());
        }
        let (name, seconds) = (self.name, bound.as_secs_f64());
        let message = format!(
            "the runner {name:?} ends though these tasks have not, {seconds} s after they were cancelled: {}",
            refused.iter().map(signals::repr_of).collect::<Vec<_>>().join(", ")
        );
        log::log(py, "warning", &message, None);
        for task in refused {
            nestable::close_nested(&task);
            // Reported already. A task class that has no such attribute may report it again.
            let _ = task.setattr(intern!(py, "_log_destroy_pending"), false);
        }
        Ok(())
    }

    /// Waits for tasks; returns those that have ended, and those that have not.
    fn wait_for(&mut self, tasks: &Bound<'py, PySet>, bound: Duration) -> PyResult<(Tasks<'py>, Tasks<'py>)> {
        if tasks.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let py = tasks.py();
        let options = PyDict::new(py);
        options.set_item("timeout", bound.as_secs_f64())?;
        let both = self.run(names::asyncio_wait(py)?.call((tasks,), Some(&options))?)?;
        let list = |index: usize| both.get_item(index)?.try_iter()?.collect::<PyResult<Tasks<'py>>>();
        Ok((list(0)?, list(1)?))
    }

    /// `run_until_complete`, also after a stop that was still under way. By 1 it raises only what ends the cleanup.
    fn run(&mut self, coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let task = self.event_loop.call_method1(intern!(py, "create_task"), (&coroutine,))?;
        let mut turns = Turns { event_loop: self.event_loop, coroutine, task, failure: None };
        let ended = self.wait.wait_for(py, &mut turns);
        if turns.is_done() {
            return turns.task.call_method0(intern!(py, "result"));
        }
        ended.map(|value| value.into_bound(py))
    }

    /// As `asyncio.run`: errors that tasks raised while they were cancelled go to the exception handler.
    fn report_failures(&self, tasks: &[Bound<'py, PyAny>]) -> PyResult<()> {
        tasks.iter().try_for_each(|task| report_failure(self.event_loop, task))
    }
}

type Tasks<'py> = Vec<Bound<'py, PyAny>>;

/// Cancels a task. What it waits for may raise, being the user's code: that is his to know, and others are cancelled too.
fn cancel(task: &Bound<'_, PyAny>) {
    let py = task.py();
    if let Err(error) = task.call_method0(intern!(py, "cancel")) {
        log::log(py, "error", "a task could not be cancelled, as what it waits for raised this", Some(&error));
    }
}

/// The loop turns until a task is done.
struct Turns<'a, 'py> {
    event_loop: &'a Bound<'py, PyAny>,
    coroutine: Bound<'py, PyAny>,
    task: Bound<'py, PyAny>,
    failure: Option<PyErr>,
}

impl Turns<'_, '_> {
    fn is_done(&self) -> bool {
        let done = self.task.call_method0(intern!(self.task.py(), "done"));
        done.is_ok_and(|done| done.is_truthy().unwrap_or(false))
    }
}

impl Awaited for Turns<'_, '_> {
    type Output = Py<PyAny>;

    const DRIVES: bool = true;

    fn take(&mut self, py: Python<'_>) -> Option<Outcome> {
        self.is_done().then(|| Outcome::Returned(py.None()))
    }

    fn fate(&mut self, _py: Python<'_>) -> Fate {
        if self.failure.is_some() { Fate::Gone } else { Fate::Runs }
    }

    fn sleep(&mut self, py: Python<'_>, _due: Option<Instant>) -> PyResult<()> {
        let turned = self.event_loop.call_method1(intern!(py, "run_until_complete"), (&self.task,));
        match turned {
            Ok(_) => Ok(()),
            Err(_) if self.is_done() => Ok(()),
            Err(error) if was_stopped(py, &error) => Ok(()),
            Err(error) if signals::are_handlers(py, &error) => Err(error),
            // `SystemExit` and the like in a task.
            Err(error) if !signals::concerns_driver(py, &error) => {
                log::log(py, "error", "a task or callback raised this while its loop ends", Some(&error));
                Ok(())
            }
            // What another thread has raised in this one.
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            // A loop that can't run any more would fail for ever.
            Err(error) => {
                self.failure = Some(error);
                Ok(())
            }
        }
    }

    fn cancel(&mut self, _py: Python<'_>) {}

    fn abandon(&mut self, py: Python<'_>, _waited_for_cleanup: Option<Duration>) {
        let _ = self.task.setattr(intern!(py, "_log_destroy_pending"), false);
        if let Err(error) = self.coroutine.call_method0(intern!(py, "close")) {
            error.write_unraisable(py, None);
        }
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        self.failure.as_ref().map_or_else(errors::shutting_down, |error| error.clone_ref(py))
    }

    fn is_closing(&self, _py: Python<'_>) -> bool {
        false
    }
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

/// asyncio's word for `loop.stop()` during `run_until_complete`.
fn was_stopped(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py)
        && signals::text_of(error.value(py)).contains("stopped before Future completed")
}

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
