//! `submit`: calls that are started and not waited for, and what their futures can do with them.

use super::shared::{Hold, Shared};
use crate::call::state::Call;
use crate::call::taker::{Promised, Taker};
use crate::coroutine::target::Target;
use crate::python::context;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::runner::state::{Job, Runner, current_runner};
use crate::task::start::RunIn;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::Mutex;

/// What a submitted future knows of its call.
// No `__traverse__`: the call has the future until it is settled.
#[pyclass(frozen, module = "syncline._core")]
pub struct Submitted {
    call: Arc<Call>,
    runner: Arc<Runner>,
}

#[pymethods]
impl Submitted {
    /// Cancels the task, on its loop.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        if self.runner.epoch != process::epoch() {
            // The mailbox is the parent's. Another thread may have held its lock at the fork.
            return Ok(());
        }
        self.call.begin_cancelling();
        // If the mailbox takes nothing any more, the runner is ending, and cancels all its tasks.
        let _ = self.runner.post(py, Job::Cancel(Arc::clone(&self.call)));
        signals::check(py)
    }

    /// For reports: the loop's name and thread, and the task, while it is suspended.
    #[getter]
    fn _seen<'py>(&self, py: Python<'py>) -> (&str, u64, Option<Bound<'py, PyAny>>) {
        (&self.runner.name, self.runner.thread_id(), self.call.task(py))
    }

    /// Calls `wait(timeout)`, which waits for the future, unless that could never end.
    fn wait(&self, py: Python<'_>, wait: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if self.runner.epoch != process::epoch() {
            return Err(errors::runner_closed(
                py,
                "the call belongs to the process that this one was forked from; submit it again here".to_owned(),
            ));
        }
        let current = current_runner();
        let edge = current.as_ref().map(|current| current.node.wait_for(&self.runner.node));
        if let Some(Err(_)) = edge
            && !self.call.is_settled()
        {
            return Err(self.circle(py)?);
        }
        Ok(wait.call1((timeout,))?.unbind())
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
    /// The error for a thread that the runner waits for, and that would wait for a call on the runner.
    fn circle(&self, py: Python<'_>) -> PyResult<PyErr> {
        let stack_of = py.import("syncline._diagnosis")?.getattr("stack_of")?;
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
            let (found, runner) = target.with(py, self.runner_for_others(py))?;
            target = found;
            let keeps = Arc::<Hold>::clone(hold);
            let promised = Promised { future: future.clone_ref(py), keeps };
            let call = runner.new_call(Taker::Future(Mutex::new(Some(promised))), &self.terms.stats);
            let told = runner.tell_of_end(py, &call);
            let (ready, context) = target.with(py, told.and_then(|()| context::copy(py)))?;
            let job = Job::Start(Arc::clone(&call), ready, RunIn::Task(context));
            match runner.post(py, job) {
                Ok(()) => return signals::check(py).map(|()| Submitted { call, runner }),
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
