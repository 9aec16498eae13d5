//! `submit`: calls that are started and not waited for, and what their futures can do with them.

use super::blocking::Blocking;
use super::placement::Place;
use super::shared::{Hold, Shared};
use crate::call::heard::Heard;
use crate::call::outcome::{Outcome, settle_future};
use crate::call::state::Call;
use crate::call::taker::{Promised, Taker};
use crate::call::wait::{Seconds, number};
use crate::call::waiting_tasks;
use crate::coroutine::target::Target;
use crate::python::context;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::Backend;
use crate::runner::moving;
use crate::runner::nodes;
use crate::runner::state::{Job, Runner, current_runner};
use crate::runner::watch::Watch;
use crate::task::start::RunIn;
use crate::worker::behind;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_core::sync::Mutex;
use syncline_core::waits::Node;

/// How often a thread that waits for a future looks whether that can end: some times after so long, then less and less often.
const FIRST_LOOKS: Duration = Duration::from_secs(1);
const MANY_LOOKS: u32 = 8;
const MOST_DOUBLINGS: u32 = 5;

/// What a submitted future knows of its call.
// No `__traverse__`: the call has the future until it is settled.
#[pyclass(frozen, module = "syncline._core")]
pub struct Submitted {
    call: Arc<Call>,
    runner: Arc<Runner>,
    shared: Arc<Shared>,
}

#[pymethods]
impl Submitted {
    /// Cancels the task, on its loop.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        if self.runner.epoch != process::epoch() {
            // The mailbox is the parent's. Another thread may have held its lock at the fork.
            return Ok(());
        }
        self.runner.ask_to_cancel(py, &self.call);
        signals::check(py)
    }

    /// For reports: the loop's name and thread, and the task, while it is suspended.
    #[getter]
    fn _seen<'py>(&self, py: Python<'py>) -> (String, u64, Option<Bound<'py, PyAny>>) {
        let runner = self.runs_on();
        (runner.name.to_string(), runner.thread_id(), self.call.task(py))
    }

    /// Calls `wait(seconds)`, which waits for the future and returns whether it has a result, or None as long as it has
    /// neither that nor an error; unless the wait could never end.
    fn wait(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<Seconds<'_>>) -> PyResult<Option<bool>> {
        let timeout = number("timeout", timeout.as_ref())?;
        if self.runner.epoch != process::epoch() {
            return Err(errors::runner_closed(
                py,
                "the call belongs to the process that this one was forked from; submit it again here".to_owned(),
            ));
        }
        // Else it is a look.
        let is_a_wait = timeout.is_none_or(|seconds| seconds > 0.0);
        if is_a_wait {
            self.shared.look_before_result(py)?;
        }
        let here = nodes::here(py)?;
        let mut runner = self.runs_on();
        let begin =
            |runner: &Arc<Runner>| here.as_ref().map(|here| Blocking::begin(py, here, &runner.node)).transpose();
        let mut blocking = begin(&runner)?;
        if blocking.as_ref().is_some_and(Blocking::closes_circle) && runner.move_calls(py)? > 0 {
            runner = self.runs_on();
            drop(blocking);
            blocking = begin(&runner)?;
        }
        let circle = blocking.as_ref().is_some_and(Blocking::closes_circle);
        // On a loop of somebody else's a wait that ends by itself may be part of how that is run: not if it stops the very loop
        // that has the call.
        let is_its_own = || here.as_ref().is_some_and(|here| Arc::ptr_eq(here, &runner.node));
        let is_for_good = || timeout.is_none() || current_runner().is_some() || is_its_own();
        if circle && is_a_wait && is_for_good() && !self.call.is_settled() {
            return Err(self.circle(py)?);
        }
        let _blocking = blocking.filter(|_| !circle);
        let _blocks = here.as_ref().filter(|_| !circle).map(|here| Blocks::begin(&self.call, here, &runner));
        let _awaiting = if here.is_none() { behind::may_wait_for(py, &runner)? } else { [None, None] };
        let waited = if self.runner.is_visible {
            self.wait_shown(py, wait, timeout)
        } else {
            self.wait_and_look(py, wait, timeout)
        };
        if !matches!(waited, Ok(Some(true))) {
            process::end_daemon_thread(py)?;
        }
        waited
    }
}

/// What `SubmittedFuture` has besides Python's future.
#[pyclass(frozen, subclass, module = "syncline._core")]
pub struct FutureBase;

#[pymethods]
impl FutureBase {
    #[new]
    fn new() -> Self {
        Self
    }

    /// Serves as `__del__`, without a frame of Python's, in which an error that a signal handler raises would be lost.
    fn _drop(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        signals::in_finalizer(py, || slf.call_method0(intern!(py, "_report_if_forgotten")).map(drop))
    }
}

/// While it lives, this thread waits for the call, and the loop that runs here stands still.
struct Blocks<'a>(&'a Call);

impl<'a> Blocks<'a> {
    fn begin(call: &'a Call, here: &Arc<Node>, runner: &Runner) -> Self {
        moving::note_blocking(call, here, runner);
        Self(call)
    }
}

impl Drop for Blocks<'_> {
    fn drop(&mut self) {
        moving::note_unblocked(self.0);
    }
}

impl Submitted {
    /// The runner that has the call by now.
    fn runs_on(&self) -> Arc<Runner> {
        moving::moved_to(&self.call).unwrap_or_else(|| Arc::clone(&self.runner))
    }

    /// Waits, and has the interpreter's tools see which task does, if one does: from now on where the call is suspended, else
    /// when it suspends.
    #[cold]
    fn wait_shown(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Option<bool>> {
        waiting_tasks::note_call(py, &self.call);
        let waiter = signals::through(py, || names::add_waiter(py)?.call1((self.call.task(py),)));
        let result = signals::raise_kept().and_then(|()| self.wait_and_look(py, wait, timeout));
        waiting_tasks::forget(&self.call);
        if let (Some(task), Some(waiter)) = (self.call.task(py), waiter.filter(|waiter| !waiter.is_none())) {
            signals::through(py, || names::drop_waiter(py)?.call1((&task, &waiter)));
        }
        signals::ended(py, result)
    }

    /// Waits, and looks once in a while whether that can end.
    fn wait_and_look(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Option<bool>> {
        let begun = Instant::now();
        let mut watch: Option<Watch> = None;
        for looks in 0_u32.. {
            let span = FIRST_LOOKS * 2_u32.pow(looks.saturating_sub(MANY_LOOKS).min(MOST_DOUBLINGS));
            let left = timeout.map(|seconds| seconds - begun.elapsed().as_secs_f64());
            let is_last = left.is_some_and(|left| left <= span.as_secs_f64());
            let slice = if is_last { left } else { Some(span.as_secs_f64()) };
            let waited: Option<bool> = wait.call1((slice,))?.extract()?;
            if waited.is_some() || is_last {
                return Ok(waited);
            }
            current_runner().map_or(Ok(0), |here| here.move_calls(py))?;
            let runner = self.runs_on();
            let watch = watch.get_or_insert_with(|| Watch::of_future(begun));
            watch.make_known(py, &runner, &self.call, false);
            watch.look(py, &runner, &self.call, false, Instant::now())?;
        }
        Ok(None)
    }

    /// The error for a thread that the runner waits for, and that would wait for a call on the runner.
    fn circle(&self, py: Python<'_>) -> PyResult<PyErr> {
        let stack_of = names::stack_of(py)?;
        let here: String = stack_of.call1((names::thread_ident(py)?,))?.extract()?;
        let there: String = stack_of.call1((self.runner.thread_id(),))?.extract()?;
        let instead = match self.runner.backend {
            Backend::Asyncio => "asyncio.wrap_future(future) instead of future.result()",
            Backend::Trio => "bridge.run_async(fn, ...) instead of submit() and future.result()",
        };
        Ok(errors::deadlock(
            py,
            format!(
                "this thread waits for a call on the runner {name:?}, which can't run it while this thread waits; await \
                 {instead}\nthis thread:\n{here}\nthe thread of the runner \
                 {name:?}:\n{there}",
                name = self.runner.name
            ),
        ))
    }
}

/// What a signal handler has raised, and what refuses the call, is raised here, as by a call that is waited for.
fn settle(py: Python<'_>, future: &Py<PyAny>, heard: Heard) -> PyResult<()> {
    let outcome = match heard.result {
        Ok(value) => Outcome::Returned(value),
        Err(error) if signals::are_handlers(py, &error) || errors::are_of_closing(py, &error) => return Err(error),
        Err(error) => Outcome::Raised(error),
    };
    signals::unbroken(py, || settle_future(future.bind(py), &outcome)).map(drop)
}

impl Shared {
    /// Starts the call without waiting. Its result goes to `future`; until then the call keeps the bridge's loops
    /// alive. `None` if it has ended by now, as the process exits.
    pub fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        hold: &Arc<Hold>,
        target: Target,
        future: &Py<PyAny>,
    ) -> PyResult<Option<Submitted>> {
        let mut target = target;
        loop {
            let found = self.place_for_others(py).map_err(|error| process::refused(py, || error));
            let (found, place) = target.with(py, found)?;
            if matches!(place, Place::Inline(_)) {
                let (found, context) = found.with(py, context::copy(py))?;
                let heard = self.run_inline(py, found, RunIn::Task(context), self.patience(None));
                return settle(py, future, heard).map(|()| None);
            }
            let (found, runner) = found.with(py, place.runner())?;
            target = found;
            let (found, awaiting) = target.with(py, behind::may_wait_for(py, &runner))?;
            target = found;
            let keeps = Arc::new((Arc::<Hold>::clone(hold), awaiting));
            let promised = Promised { future: future.clone_ref(py), keeps };
            let call = runner.new_call(Taker::Future(Mutex::new(Some(promised))), &self.terms.stats);
            let told = runner.tell_of_end(py, &call).and_then(|()| self.note_origin(py, &call));
            let (ready, context) = target.with(py, told.and_then(|()| context::copy(py)))?;
            let job = Job::Start(Arc::clone(&call), ready, RunIn::Task(context));
            match runner.post(py, job) {
                Ok(()) => {
                    if let Err(error) = runner.move_calls(py) {
                        signals::keep_unless_exception(py, error);
                    }
                    return signals::check(py).map(|()| Some(Submitted { call, runner, shared: Arc::clone(self) }));
                }
                Err(error) => match error.0 {
                    Job::Start(_, returned, _) => target = returned,
                    Job::Arrival(_) | Job::Cancel(_) | Job::Do(_) | Job::Stop => {
                        return Err(errors::bridge_closed(py, &self.name));
                    }
                },
            }
        }
    }
}
