//! How a loop ends: sessions that are open do what is left to them (`Closer`), then tasks are cancelled, then resources
//! are closed and async generators finalized. Each has a limited time.
//!
//! Invariants:
//! 1. What a first signal handler raises is raised when the loop has been cleaned up. A second one ends the cleanup. So each
//!    step that asyncio's Python code makes for us is made again if it was broken off, and what was raised is kept for the
//!    next wait.

use crate::call::outcome::Outcome;
use crate::call::state::Call;
use crate::call::wait::{Awaited, Fate, Wait};
use crate::python::errors;
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::surroundings::is_in_use;
use crate::switch::nestable;
use crate::task::bridged::BridgedCoroutine;
use crate::task::loops::turns_once;
use crate::task::revival::{revive_lost, revived};
use crate::task::session::Session;
use crate::task::session_task::SessionCoroutine;
use crate::task::starting::start_surely;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes last has at least that long, even if nothing is left of the time: most of it ends as soon as it is told
/// to.
const LEAST_LEFT: Duration = Duration::from_millis(100);

/// So many turns of the loop it takes at most until what a task was told reaches those that it has begun.
const TURNS_TO_CANCEL: u32 = 2;

/// So often at most what signals break off is begun.
const MOST_RUNS: u32 = 4;

/// Ends what is left on a loop, in the loop's own thread. Open sessions and tasks together have the time `bound`,
/// resources and async generators have that once more. `wait` keeps what signal handlers raise meanwhile.
pub fn clean_up(
    py: Python<'_>,
    event_loop: &Bound<'_, PyAny>,
    bound: Duration,
    name: &str,
    wait: &mut Wait,
) -> PyResult<()> {
    let begun = Instant::now();
    let mut cleanup = Cleanup { event_loop, name, bound, known: PySet::empty(py)?, spares_keepers: true, wait };
    let sessions = cleanup.end_idle_sessions()?;
    // Other tasks may need what sessions hold open in order to end, and sessions may need those tasks. So sessions have
    // half of the time alone; if they need longer, the tasks are cancelled while they still wait.
    cleanup.wait_for(&sessions, if cleanup.tasks()?.len() > sessions.len() { bound / 2 } else { bound })?;
    cleanup.end_tasks(sessions, bound.saturating_sub(begun.elapsed()), Told::ToEnd)?;
    let left = || (bound * 2).saturating_sub(begun.elapsed()).min(bound).max(LEAST_LEFT);
    cleanup.close_resources(left())?;
    let finalized = RefCell::new(None);
    let finalizing = || {
        let coroutine = event_loop.call_method0(intern!(py, "shutdown_asyncgens"))?;
        let bounded = names::wait_for(py)?.call1((&coroutine, left().as_secs_f64()));
        drop(finalized.replace(Some(coroutine)));
        bounded
    };
    if let Err(error) = cleanup.run(finalizing) {
        // It may never have been awaited, and would be reported for that.
        if let Some(coroutine) = finalized.take() {
            coroutine.call_method0(intern!(py, "close"))?;
        }
        return Err(error);
    }
    // For generators that were dropped meanwhile asyncio starts closing tasks, a turn later: let it make them, and end
    // those.
    cleanup.run(|| names::asyncio_sleep(py)?.call1((0,)))?;
    cleanup.end_tasks(PySet::empty(py)?, left(), Told::Nothing)?;
    cleanup.wait.raise_signal(py)
}

/// What the cleanup does first with a task that it meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Cancels it, unless it closes something.
    ToEnd,
    /// Waits for it, for half of the time: what is there by then closes something.
    Nothing,
}

struct Cleanup<'a, 'py> {
    event_loop: &'a Bound<'py, PyAny>,
    name: &'a str,
    bound: Duration,
    /// The tasks that were told to end.
    known: Bound<'py, PySet>,
    /// Whether tasks that keep a resource open are passed over: what other tasks use is closed after them.
    spares_keepers: bool,
    wait: &'a mut Wait,
}

impl<'py> Cleanup<'_, 'py> {
    fn tasks(&self) -> PyResult<Tasks<'py>> {
        signals::unbroken(self.event_loop.py(), || self.tasks_now())
    }

    fn tasks_now(&self) -> PyResult<Tasks<'py>> {
        let py = self.event_loop.py();
        let keepers = if self.spares_keepers && has_resources(py)? { Some(names::keeping_tasks(py)?) } else { None };
        let mut tasks = Vec::new();
        for task in names::all_tasks(py)?.call1((self.event_loop,))?.try_iter()? {
            let task = task?;
            if !keepers.map_or(Ok(false), |keepers| keepers.contains(&task))? {
                tasks.push(revived(self.event_loop, &task)?.unwrap_or(task));
            }
        }
        Ok(tasks)
    }

    /// Closes the resources that are open on this loop. Those that take longer are cancelled with the last tasks.
    fn close_resources(&mut self, left: Duration) -> PyResult<()> {
        let py = self.event_loop.py();
        self.spares_keepers = false;
        if has_resources(py)? {
            let event_loop = self.event_loop;
            self.run(|| names::close_kept(py)?.call1((event_loop, left.as_secs_f64())))?;
        }
        Ok(())
    }

    /// Has those sessions that are between two steps do their closer. Returns their tasks.
    fn end_idle_sessions(&mut self) -> PyResult<Bound<'py, PySet>> {
        let idle = PySet::empty(self.event_loop.py())?;
        for task in self.tasks()? {
            if let Some(session) = session_of(&task).filter(|session| session.is_idle()) {
                self.step(&task, || session.end_by_closer(task.py()))?;
                self.known.add(&task)?;
                idle.add(task)?;
            }
        }
        Ok(idle)
    }

    /// Has something done to a task, by 1. If that was broken off, the task may have lost its step.
    fn step(&self, task: &Bound<'py, PyAny>, step: impl Fn() -> PyResult<()>) -> PyResult<()> {
        let py = task.py();
        match step() {
            Err(error) if signals::are_handlers(py, &error) => {
                let _ = signals::keep(py, error);
                signals::unbroken(py, || revived(self.event_loop, task).map(drop))?;
                signals::unbroken(py, step)
            }
            made => made,
        }
    }

    /// Cancels a task. The `cancel` of what it waits for may be the user's code, and raise. That is logged, so that the
    /// other tasks are cancelled all the same.
    fn cancel(&self, task: &Bound<'py, PyAny>) {
        let py = task.py();
        if let Err(error) = self.step(task, || task.call_method0(intern!(py, "cancel")).map(drop)) {
            log::log(py, "error", "a task could not be cancelled, as what it waits for raised this", Some(&error));
        }
    }

    /// Cancels all tasks but those of `sessions`, which end by themselves, and waits for both. Tasks that these have
    /// started meanwhile are ended in the same way, until there are no new ones or the time is over.
    fn end_tasks(&mut self, sessions: Bound<'py, PySet>, left: Duration, told: Told) -> PyResult<()> {
        let py = self.event_loop.py();
        let begun = Instant::now();
        let (mut ending, mut refused) = (sessions, Vec::new());
        loop {
            let rest = || left.saturating_sub(begun.elapsed());
            // Waited for before the others are cancelled: a task that closes something may need one of the others.
            let closing = self.closing_tasks(told)?;
            self.wait_for(&closing, rest() / 2)?;
            let cleaning = self.meet(&ending)?;
            if ending.is_empty() {
                break;
            }
            for task in self.wait_for(&cleaning, rest() / 2)?.1 {
                self.cancel(&task);
            }
            let (ended, pending) = self.wait_for(&ending, rest())?;
            self.report_failures(&ended)?;
            refused.extend(pending);
            if rest().is_zero() {
                break;
            }
            ending = PySet::empty(py)?;
        }
        self.leave_behind(refused)
    }

    /// The tasks that were not told to end yet, and are given time to end by themselves.
    fn closing_tasks(&self, told: Told) -> PyResult<Bound<'py, PySet>> {
        let closing = PySet::empty(self.event_loop.py())?;
        for task in self.tasks()? {
            if !self.known.contains(&task)? && (told == Told::Nothing || closes_something(&task)?) {
                closing.add(task)?;
            }
        }
        Ok(closing)
    }

    /// Tells all other tasks to end, and adds them to `ending`. Returns those that were cancelled before, and which are
    /// cleaning up by now. A second cancellation would break that off, so they have half of the time first.
    ///
    /// First those of calls: what they have begun in a group, a map or a worker they cancel themselves.
    fn meet(&mut self, ending: &Bound<'py, PySet>) -> PyResult<Bound<'py, PySet>> {
        let py = self.event_loop.py();
        let cleaning = PySet::empty(py)?;
        let mut begun_by_others = Vec::new();
        for task in self.tasks()? {
            if self.known.contains(&task)? {
                continue;
            }
            if session_of(&task).is_none() && call_of(&task).is_none_or(|call| call.waiter().is_some()) {
                begun_by_others.push((cancellations(&task), task));
                continue;
            }
            if let Some(session) = session_of(&task) {
                if session.is_idle() {
                    // Its step has ended meanwhile, or it is a new one. Between two steps it refuses to be cancelled.
                    self.step(&task, || session.end_by_closer(py))?;
                    self.known.add(&task)?;
                    ending.add(task)?;
                    continue;
                }
                session.end_after_this_step();
            }
            match call_of(&task) {
                Some(call) if call.knows_of_closing() => {}
                Some(call) if call.was_cancelled() => cleaning.add(&task)?,
                _ => self.cancel(&task),
            }
            self.known.add(&task)?;
            ending.add(task)?;
        }
        let is_cancelled = |before: u64, task: &Bound<'py, PyAny>| cancellations(task) > before;
        if !ending.is_empty() {
            self.see_who_is_cancelled(|| {
                begun_by_others.iter().filter(|(before, task)| is_cancelled(*before, task)).count()
            })?;
        }
        for (before, task) in begun_by_others {
            if is_cancelled(before, &task) {
                cleaning.add(&task)?;
            } else {
                self.cancel(&task);
            }
            self.known.add(&task)?;
            ending.add(task)?;
        }
        Ok(cleaning)
    }

    /// Turns the loop as long as more tasks are cancelled by that.
    fn see_who_is_cancelled(&mut self, count: impl Fn() -> usize) -> PyResult<()> {
        let (mut known, mut turns_in_vain) = (0, 0);
        while turns_in_vain < TURNS_TO_CANCEL {
            self.run(|| names::asyncio_sleep(self.event_loop.py())?.call1((0,)))?;
            let now = count();
            turns_in_vain = if now > known { 0 } else { turns_in_vain + 1 };
            known = now;
        }
        Ok(())
    }

    /// Reports the tasks that refuse to end. The loop is closed without them.
    fn leave_behind(&self, refused: Tasks<'py>) -> PyResult<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let py = self.event_loop.py();
        let (name, seconds) = (self.name, self.bound.as_secs_f64());
        let message = format!(
            "the runner {name:?} ends though these tasks have not, {seconds} s after they were cancelled: {}",
            refused.iter().map(signals::repr_of).collect::<Vec<_>>().join(", ")
        );
        log::log(py, "warning", &message, None);
        for task in refused {
            nestable::close_nested(&task);
            // So that asyncio does not report the task again. A task class without that attribute may do so.
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
        let both = self.run(|| names::asyncio_wait(py)?.call((tasks,), Some(&options)))?;
        let list = |index: usize| both.get_item(index)?.try_iter()?.collect::<PyResult<Tasks<'py>>>();
        Ok((list(0)?, list(1)?))
    }

    /// As `run_until_complete`, but goes on if a `stop()` from before still ends the loop's turn. By 1 it raises only
    /// what ends the cleanup.
    fn run(&mut self, coroutine: impl Fn() -> PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.event_loop.py();
        for _ in 0..MOST_RUNS {
            let coroutine = coroutine()?;
            let task = start_surely(self.event_loop, &coroutine)?;
            let mut turns = Turns { event_loop: self.event_loop, coroutine, task, failure: None };
            let ended = self.wait.wait_for(py, &mut turns);
            if !turns.is_done() {
                return ended.map(|value| value.into_bound(py));
            }
            match turns.task.call_method0(intern!(py, "result")) {
                // A signal handler's, which has broken off this very coroutine. The wait has it.
                Err(error) if ended.is_err() && signals::are_handlers(py, &error) => {}
                result => return result,
            }
        }
        self.wait.raise_signal(py)?;
        Err(errors::shutting_down())
    }

    /// As `asyncio.run`: errors that tasks raised while they were cancelled go to the exception handler.
    fn report_failures(&self, tasks: &[Bound<'py, PyAny>]) -> PyResult<()> {
        let py = self.event_loop.py();
        tasks.iter().try_for_each(|task| signals::unbroken(py, || report_failure(self.event_loop, task)))
    }
}

type Tasks<'py> = Vec<Bound<'py, PyAny>>;

/// How often the task was cancelled, less those that were taken back. Tasks of others' classes may not tell.
fn cancellations(task: &Bound<'_, PyAny>) -> u64 {
    let asked = signals::unbroken(task.py(), || task.call_method0(intern!(task.py(), "cancelling"))?.extract());
    asked.unwrap_or(0)
}

/// Whether any resource was ever used.
fn has_resources(py: Python<'_>) -> PyResult<bool> {
    is_in_use(py, intern!(py, "_keepers"))
}

/// The type of what `aclose()` of an async generator returns: asyncio makes a task of that for one that was dropped.
const ACLOSE: &str = "async_generator_athrow";

/// Whether the task closes something that was left open: a generator that was dropped, or what `close_later` was given.
fn closes_something(task: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = task.py();
    let coroutine = nestable::unwrapped(task.call_method0(intern!(py, "get_coro"))?);
    if coroutine.get_type().name()? == ACLOSE {
        return Ok(true);
    }
    let has_begun = is_in_use(py, intern!(py, "_nested"))?;
    Ok(has_begun && names::closing_tasks(py)?.contains(task)?)
}

/// The wait for a task of this loop: the waiting thread turns the loop until the task is done.
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
        let mut turned = self.event_loop.call_method1(intern!(py, "run_until_complete"), (&self.task,)).map(drop);
        if let Err(error) = &turned
            && was_stopped(py, error)
            && !self.is_done()
        {
            // A `stop()` from before, or a loop that does not turn at all.
            let run = || self.event_loop.call_method0(intern!(py, "run_forever")).map(|_| true);
            let stop = self.event_loop.getattr(intern!(py, "stop"));
            turned = match stop.and_then(|stop| turns_once(self.event_loop, &stop, run)) {
                Ok(false) => {
                    self.failure = turned.err();
                    return Ok(());
                }
                turns => turns.map(drop),
            };
        }
        match turned {
            Ok(()) => Ok(()),
            // First of all: it may come when the task is done, in the turn that is left.
            Err(error) if signals::are_handlers(py, &error) => {
                revive_lost(self.event_loop);
                Err(error)
            }
            Err(_) if self.is_done() => Ok(()),
            // `SystemExit` and the like, raised by a task: the task's own affair, and the cleanup goes on.
            Err(error) if !signals::concerns_driver(py, &error) => {
                log::log(py, "error", "a task or callback raised this while its loop ends", Some(&error));
                Ok(())
            }
            // An exception that another thread has raised in this one (`PyThreadState_SetAsyncExc`).
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            // The loop itself can't run any more. It would fail again each time.
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

/// The call whose coroutine a task of ours runs at the moment.
pub fn call_of(task: &Bound<'_, PyAny>) -> Option<Arc<Call>> {
    if let Some(session) = session_of(task) {
        return session.current_call();
    }
    let coroutine = task.call_method0(intern!(task.py(), "get_coro")).ok()?;
    coroutine.cast_into::<BridgedCoroutine>().ok().and_then(|coroutine| coroutine.get().call())
}

fn session_of(task: &Bound<'_, PyAny>) -> Option<Arc<Session>> {
    let coroutine = task.call_method0(intern!(task.py(), "get_coro")).ok()?;
    coroutine.cast_into::<SessionCoroutine>().ok()?.get().session()
}

/// Whether `run_until_complete` ended because of `loop.stop()`. asyncio says so by this text alone.
fn was_stopped(py: Python<'_>, error: &PyErr) -> bool {
    errors::is_runtime_error(py, error, "stopped before Future completed")
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
