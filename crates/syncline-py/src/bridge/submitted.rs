//! Calls that are started and not waited for: what `submit` does, and what its future knows.

use crate::bridge::placement::{Place, RunnerKey, Scope, Shared};
use crate::call::state::Call;
use crate::coroutine::target::Target;
use crate::python::context;
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::runner::state::{Job, Runner, current_runner};
use crate::task::start::RunIn;
use pyo3::prelude::*;
use std::sync::Arc;

/// What a submitted future knows of its call.
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
            // The parent's mailbox: a sender may have held its lock at the fork.
            return Ok(());
        }
        self.call.begin_cancelling();
        // A runner that takes no more mail is ending, and cancels all its tasks.
        let _ = self.runner.post(py, Job::Cancel(Arc::clone(&self.call)));
        signals::raise_kept()
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

impl Submitted {
    fn circle(&self, py: Python<'_>) -> PyResult<PyErr> {
        let stack_of = py.import("syncline._diagnosis")?.getattr("stack_of")?;
        let here: String = stack_of.call1((names::get_ident(py)?.call0()?,))?.extract()?;
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
    /// Starts the call without waiting; its result goes to `future`.
    pub fn submit(self: &Arc<Self>, py: Python<'_>, target: Target, future: &Py<PyAny>) -> PyResult<Submitted> {
        let mut target = target;
        loop {
            let runner = match self.place_for_submit(py) {
                Ok(runner) => runner,
                Err(error) => {
                    target.discard(py);
                    return Err(error);
                }
            };
            let call = Call::on_runner(&runner, Arc::clone(&self.stats), Some(future.clone_ref(py)));
            runner.remember_submitted(&call);
            let job = Job::Start(Arc::clone(&call), target, RunIn::Task(context::copy(py)?));
            match runner.post(py, job) {
                Ok(()) => return signals::raise_kept().map(|()| Submitted { call, runner }),
                Err(error) => match error.0 {
                    Job::Start(_, returned, _) => target = returned,
                    Job::Cancel(_) | Job::Do(_) | Job::Stop => return Err(errors::bridge_closed(py, &self.name)),
                },
            }
        }
    }

    /// A loop that moves by itself: a thread's own would not, and its future could be waited for in vain.
    fn place_for_submit(self: &Arc<Self>, py: Python<'_>) -> PyResult<Arc<Runner>> {
        self.refuse_if_closed(py)?;
        if process::is_exiting() {
            return Err(errors::shutting_down());
        }
        let place = match (self.scope, current_runner()) {
            // Nothing is waited for, so the runner of this very thread will do.
            (_, Some(current)) if current.bridge_id == self.id => Place::Runner(current),
            (Scope::Thread, _) => self.thread_runner(py)?,
            (Scope::Process | Scope::Caller, _) => self.runner(py, &RunnerKey::Level(0), &self.name)?,
        };
        match place {
            Place::Runner(runner) => Ok(runner),
            Place::Own(_) | Place::Inline => Err(errors::shutting_down()),
        }
    }
}
