//! A worker thread runs an async function on the loop that sent it there, and waits; and what a worker can ask.
//!
//! Invariants:
//! 1. Every wait ends: on the result; on the end of the loop, or if nobody drives it any more; if the task that waits for
//!    the worker was cancelled, when the coroutine has cleaned up, or after the time for that. 2. Nothing is waited for
//!    while attached, and no worker attaches once the exit has come far enough. 3. The coroutine is a task of its own on
//!    the loop; its contextvars are those of the worker's call, and changes come back.

use crate::call::{Call, Outcome, is_cancelled};
use crate::context::Carried;
use crate::errors;
use crate::home::{Health, Home, Item};
use crate::process::{self, Inside, LongWait};
use crate::signals;
use crate::target::Target;
use crate::tasks::{self, Home as TaskHome};
use crate::wait;
use crate::work::{OnCancel, Work};
use crate::workers;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_core::stats::Stats;

/// A waiting worker looks by itself that often, and examines the limiter that often.
const FIRST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(100);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a cancelled coroutine may clean up before its worker goes on without it.
const CLEANUP: Duration = Duration::from_secs(5);

/// Runs the async function `fn` on the loop that sent this worker thread, and waits for its result.
#[pyfunction]
#[pyo3(signature = (r#fn, /, *args, **kwargs))]
pub fn from_thread(
    py: Python<'_>,
    r#fn: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let Some((work, home)) = sender() else { return Err(not_a_worker(r#fn)) };
    if work.is_given_up() {
        return Err(wait::cancelled_error(py));
    }
    let target = Target::from_function("from_thread", r#fn, args, kwargs)?;
    run_there(py, &work, &home, target, None, true)
}

/// The call that this worker thread makes, and the loop that sent it here.
pub fn sender() -> Option<(Arc<Work>, Arc<Home>)> {
    let work = workers::current()?;
    let home = Arc::clone(work.home()?);
    Some((work, home))
}

/// Runs the target on the loop that sent this worker thread, and waits, for at most `timeout`.
pub fn run_there(
    py: Python<'_>,
    work: &Arc<Work>,
    home: &Arc<Home>,
    target: Target,
    timeout: Option<Duration>,
    shares_context: bool,
) -> PyResult<Py<PyAny>> {
    let carried = match Carried::fresh(py) {
        Ok(carried) => carried,
        Err(error) => {
            target.discard(py);
            return Err(error);
        }
    };
    let call = Call::on_own_loop(&"the loop of a worker thread".into(), Arc::default(), None, Arc::<Stats>::default());
    if !work.begin_waiting(&call, OnCancel::End) {
        call.begin_cancelling();
    }
    send(py, home, &call, target, carried.context(py));
    let result = Wait {
        work,
        home,
        call: &call,
        inside: Some(process::step_inside()),
        deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        timed_out: false,
        timeout,
    }
    .until_the_end(py);
    work.end_waiting();
    if shares_context {
        carried.write_back(py, false)?;
    }
    result
}

fn not_a_worker(function: &Bound<'_, PyAny>) -> PyErr {
    let name = errors::name_of(function);
    PyRuntimeError::new_err(format!(
        "from_thread() runs an async function on the loop that sent this thread its work, and this is no worker thread of \
         syncline's; use run_sync({name}, ...), or come here by `await to_thread(...)`"
    ))
}

/// A target on its way to its loop: closed properly if it never gets there.
struct Sent(Option<Target>, Arc<Call>);

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(target) = self.0.take() {
            Python::try_attach(|py| {
                target.discard(py);
                self.1.settle(py, Outcome::Raised(loop_is_gone(py)));
            });
        }
    }
}

fn send(py: Python<'_>, home: &Arc<Home>, call: &Arc<Call>, target: Target, context: Py<PyAny>) {
    let mut sent = Sent(Some(target), Arc::clone(call));
    let there = Arc::downgrade(home);
    let begin = move |py: Python<'_>| {
        let call = Arc::clone(&sent.1);
        let event_loop = there.upgrade().and_then(|home| home.event_loop(py));
        let (Some(event_loop), Some(target)) = (event_loop, sent.0.take()) else { return };
        if call.is_to_be_cancelled(Instant::now()) {
            target.discard(py);
            call.settle(py, Outcome::Raised(wait::cancelled_error(py)));
            return;
        }
        let started = tasks::start(&event_loop, &call, target, TaskHome::Task(context), false);
        // Its first step may have cancelled the task that waits for the worker.
        if let Err(error) = started.and_then(|_| call.cancel_if_asked_and_begun(py)) {
            call.settle(py, Outcome::Raised(error));
        }
    };
    home.deliver(py, Item::Do(Box::new(begin)));
}

fn loop_is_gone(py: Python<'_>) -> PyErr {
    errors::runner_closed(
        py,
        "the event loop that sent this worker thread was closed, or nobody runs it any more, before the call ended; keep \
         it running until its workers are done, or use run_sync(), which has a loop of its own"
            .to_owned(),
    )
}

struct Wait<'a> {
    work: &'a Arc<Work>,
    home: &'a Arc<Home>,
    call: &'a Arc<Call>,
    inside: Option<Inside>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    timed_out: bool,
}

impl Wait<'_> {
    fn until_the_end(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut tick = FIRST_TICK;
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        let mut stands_since = None;
        let mut give_up_at = None;
        let mut moves = None;
        let mut examined = None;
        loop {
            let now = Instant::now();
            let left = self.deadline.map(|at| at.saturating_duration_since(now)).filter(|_| !self.timed_out);
            self.sleep(py, left.map_or(tick, |left| left.min(tick)));
            tick = (tick * 2).min(LONGEST_TICK);
            if let Some(outcome) = self.call.take() {
                return self.deliver(py, outcome);
            }
            let now = Instant::now();
            match self.home.health(py)? {
                Health::Runs => stands_since = None,
                Health::Stands if now - *stands_since.get_or_insert(now) < CHECK_INTERVAL => {}
                Health::Stands | Health::Gone => return self.leave(py, loop_is_gone(py)),
            }
            if !self.timed_out && self.deadline.is_some_and(|at| at <= now) {
                self.timed_out = true;
                self.cancel(py);
            }
            if self.timed_out || self.work.is_given_up() {
                if *give_up_at.get_or_insert(now + CLEANUP) <= now {
                    wait::orphaned(py, self.call, self.call.runner_name(), CLEANUP.as_secs_f64());
                    return self.leave(py, self.reason(py));
                }
            } else if next_check <= now {
                next_check = now + CHECK_INTERVAL;
                self.work.look_after_limits(py, &mut moves);
                if examined.is_none() {
                    examined = Some(LongWait::begin(py, self.home.thread_id)?);
                }
                match examined.as_ref().map_or(Ok(None), |wait| wait.is_blocked(py)) {
                    Ok(None) => {}
                    Ok(Some(report)) => {
                        self.cancel(py);
                        return self.leave(py, errors::deadlock(py, report));
                    }
                    Err(error) => signals::keep_unless_exception(py, error),
                }
            }
        }
    }

    /// The deadline has come.
    fn cancel(&self, py: Python<'_>) {
        self.call.begin_cancelling();
        let call = Arc::clone(self.call);
        let cancel = move |py: Python<'_>| {
            if let Err(error) = call.cancel_if_asked_and_begun(py) {
                error.write_unraisable(py, None);
            }
        };
        self.home.deliver(py, Item::Do(Box::new(cancel)));
    }

    fn reason(&self, py: Python<'_>) -> PyErr {
        if self.timed_out { wait::timed_out(self.timeout) } else { wait::cancelled_error(py) }
    }

    /// By 2.
    fn sleep(&mut self, py: Python<'_>, span: Duration) {
        drop(self.inside.take());
        let call = self.call;
        self.inside = Some(py.detach(|| {
            call.slot.wait(Some(span));
            process::come_back()
        }));
    }

    fn leave(&self, py: Python<'_>, error: PyErr) -> PyResult<Py<PyAny>> {
        // It may have ended after we looked.
        if let Some(outcome) = self.call.take() {
            return self.deliver(py, outcome);
        }
        self.call.abandon(py);
        Err(error)
    }

    fn deliver(&self, py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
        match outcome {
            Outcome::Returned(value) => Ok(value),
            Outcome::Raised(error) if is_cancelled(py, &error) && self.timed_out => {
                Err(errors::from_cause(py, self.reason(py), error))
            }
            // Cancelled by its loop's end rather than by its task's.
            Outcome::Raised(error) if is_cancelled(py, &error) && !self.work.is_given_up() && self.is_ending(py) => {
                Err(errors::from_cause(py, loop_is_gone(py), error))
            }
            Outcome::Raised(error) => Err(error),
        }
    }

    fn is_ending(&self, py: Python<'_>) -> bool {
        self.home.runner().is_some_and(|runner| runner.is_closing())
            || self.home.health(py).is_ok_and(|health| health == Health::Gone)
    }
}

/// Raises CancelledError in a worker thread whose await was cancelled.
#[pyfunction]
pub fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    let Some(work) = workers::current() else {
        return Err(PyRuntimeError::new_err(
            "check_cancelled() asks whether the await that sent a worker thread was cancelled, and this is no worker \
             thread of syncline's; come here by `await to_thread(...)`",
        ));
    };
    if work.is_given_up() { Err(wait::cancelled_error(py)) } else { Ok(()) }
}

/// Whether this is a worker thread, or one marked as such.
#[pyfunction]
pub fn in_worker_thread() -> bool {
    workers::is_marked() || workers::current().is_some()
}

/// Marks this thread as a worker.
#[pyfunction]
pub fn mark_as_worker_thread() {
    workers::mark(true);
}

struct Marked(bool);

impl Drop for Marked {
    fn drop(&mut self) {
        workers::mark(self.0);
    }
}

/// Calls `fn` in this thread, which is marked as a worker meanwhile.
#[pyfunction]
#[pyo3(signature = (r#fn, /, *args, **kwargs))]
pub fn call_with_mark<'py>(
    r#fn: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let _marked = Marked(workers::mark(true));
    r#fn.call(args, kwargs)
}

/// How many worker threads there are, and how many of them are idle.
#[pyfunction]
pub fn worker_counts() -> (usize, usize) {
    workers::counts()
}
