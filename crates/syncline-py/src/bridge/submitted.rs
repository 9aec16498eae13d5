//! `submit`: calls that are started and not waited for, and what their futures can do with them.

use super::shared::{Hold, Shared};
use crate::call::state::Call;
use crate::call::taker::{Promised, Taker};
use crate::call::waiting_tasks;
use crate::coroutine::target::Target;
use crate::python::context;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::runner::nodes;
use crate::runner::state::{Job, Runner, current_runner};
use crate::task::start::RunIn;
use crate::worker::behind;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::Mutex;

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
    fn _seen<'py>(&self, py: Python<'py>) -> (&str, u64, Option<Bound<'py, PyAny>>) {
        (&self.runner.name, self.runner.thread_id(), self.call.task(py))
    }

    /// Calls `wait(timeout)`, which waits for the future and returns its error, unless that could never end.
    fn wait(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if self.runner.epoch != process::epoch() {
            return Err(errors::runner_closed(
                py,
                "the call belongs to the process that this one was forked from; submit it again here".to_owned(),
            ));
        }
        if timeout.is_none_or(|seconds| seconds > 0.0) {
            self.shared.look_before_result(py)?;
        }
        let here = nodes::here(py)?;
        let edge = here.as_ref().map(|here| here.wait_for(&self.runner.node));
        // On a loop of somebody else's a wait that ends by itself may be part of how that is run.
        let is_for_good = || timeout.is_none() || current_runner().is_some();
        if let Some(Err(_)) = edge
            && is_for_good()
            && !self.call.is_settled()
        {
            return Err(self.circle(py)?);
        }
        let _awaiting = if here.is_none() { behind::may_wait_for(py, &self.runner)? } else { [None, None] };
        let waited = if self.runner.is_visible {
            self.wait_shown(py, wait, timeout)
        } else {
            wait.call1((timeout,)).map(Bound::unbind)
        };
        if waited.as_ref().map_or(true, |error| !error.is_none(py)) {
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

impl Submitted {
    /// Waits, and has the interpreter's tools see which task does, if one does: from now on where the call is suspended, else
    /// when it suspends.
    #[cold]
    fn wait_shown(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        waiting_tasks::note_call(py, &self.call);
        let waiter = signals::through(py, || names::add_waiter(py)?.call1((self.call.task(py),)));
        let result = wait.call1((timeout,));
        waiting_tasks::forget(&self.call);
        if let (Some(task), Some(waiter)) = (self.call.task(py), waiter.filter(|waiter| !waiter.is_none())) {
            signals::through(py, || names::drop_waiter(py)?.call1((&task, &waiter)));
        }
        result.map(Bound::unbind)
    }

    /// The error for a thread that the runner waits for, and that would wait for a call on the runner.
    fn circle(&self, py: Python<'_>) -> PyResult<PyErr> {
        let stack_of = names::stack_of(py)?;
        let here: String = stack_of.call1((names::thread_ident(py)?,))?.extract()?;
        let there: String = stack_of.call1((self.runner.thread_id(),))?.extract()?;
        Ok(errors::deadlock(
            py,
            format!(
                "this thread waits for a call on the runner {name:?}, which can't run it while this thread waits; await \
                 asyncio.wrap_future(future) instead of future.result()\nthis thread:\n{here}\nthe thread of the runner \
                 {name:?}:\n{there}",
                name = self.runner.name
            ),
        ))
    }
}

impl Shared {
    /// Starts the call without waiting. Its result goes to `future`; until then the call keeps the bridge's loops
    /// alive.
    pub fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        hold: &Arc<Hold>,
        target: Target,
        future: &Py<PyAny>,
    ) -> PyResult<Submitted> {
        let mut target = target;
        loop {
            let found = self.runner_for_others(py).map_err(|error| process::refused(py, || error));
            let (found, runner) = target.with(py, found)?;
            target = found;
            let (found, awaiting) = target.with(py, behind::may_wait_for(py, &runner))?;
            target = found;
            let keeps = Arc::new((Arc::<Hold>::clone(hold), awaiting));
            let promised = Promised { future: future.clone_ref(py), keeps };
            let call = runner.new_call(Taker::Future(Mutex::new(Some(promised))), &self.terms.stats);
            let told = runner.tell_of_end(py, &call);
            let (ready, context) = target.with(py, told.and_then(|()| context::copy(py)))?;
            let job = Job::Start(Arc::clone(&call), ready, RunIn::Task(context));
            match runner.post(py, job) {
                Ok(()) => return signals::check(py).map(|()| Submitted { call, runner, shared: Arc::clone(self) }),
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
