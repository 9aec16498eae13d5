//! The task of a session, and the coroutine that it runs.

use super::making::make_task;
use super::reuse;
use super::session::Session;
use super::spare_sessions::{LentTask, SessionTask, SpareSessions};
use crate::call::caller::serve_asgiref;
use crate::call::state::Call;
use crate::call::waiting_tasks;
use crate::coroutine::driven::Input;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::signals;
use crate::switch::kinds::{Steppable, StrandId};
use crate::switch::parked::{self, LayerView};
use crate::task::execution::Execution;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock, replace};

/// Makes a step of a session; `enters` as in `Session::step`. If that was its last one, and not suspended, `spare` may
/// have the task.
pub fn begin(
    event_loop: &Bound<'_, PyAny>,
    call: &Arc<Call>,
    target: Target,
    session: &Arc<Session>,
    is_last: bool,
    enters: bool,
    spare: Option<&SpareSessions>,
) -> PyResult<()> {
    let py = event_loop.py();
    let Some(target) = session.admit(py, call, target, is_last) else { return Ok(()) };
    serve_asgiref(session.context.bind(py), call)?;
    let task = task_of(session, event_loop)?;
    let made = session.step(event_loop, &task, call, target, is_last, enters)?;
    let Some((outcome, was_last)) = made else { return Ok(()) };
    if !was_last {
        call.settle(py, outcome);
        return Ok(());
    }
    let was_left = spare.map_or(Ok(false), |spare| leave_task(event_loop, session, call, spare));
    call.settle(py, outcome);
    if let Ok(true) = was_left {
        return Ok(());
    }
    session.go_on(py).and(was_left.map(drop))
}

fn task_of<'py>(session: &Arc<Session>, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if let Some(task) = session.known_task(py) {
        return Ok(task.into_bound(py));
    }
    if let Some(spare) = session.take_lent().and_then(LentTask::take) {
        // Since it was lent, the user may have given the loop a task factory.
        if reuse::is_possible(event_loop).unwrap_or(false) {
            let (mut own, idle) = spare.into_parts();
            serve(&own, py, Some(session));
            let task = own.task.bind(py).clone();
            let listed = own.begin(py);
            session.set_task(own, Some(idle));
            return listed.map(|()| task);
        }
        spare.discard(py);
    }
    let coroutine =
        SessionCoroutine { session: Mutex::new(Some(Arc::clone(session))), event_loop: event_loop.clone().unbind() };
    let coroutine = Bound::new(py, coroutine)?;
    let task = make_task(event_loop, coroutine.as_any(), &session.context).inspect_err(|error| {
        session.dismiss_task(py);
        if signals::are_handlers(py, error) {
            // The coroutine goes now, and must not take the session along.
            drop(replace(&coroutine.get().session, None));
        }
    })?;
    if session.has_ended() {
        // A task factory that gives something else has closed the coroutine.
        return Err(errors::not_a_task(&task));
    }
    session.set_task(SessionTask::new(task.clone().unbind(), coroutine.into_any().unbind()), None);
    Ok(task)
}

/// Says which session the task serves.
fn serve(own: &SessionTask, py: Python<'_>, session: Option<&Arc<Session>>) {
    if let Ok(coroutine) = own.coroutine.bind(py).cast::<SessionCoroutine>() {
        drop(replace(&coroutine.get().session, session.cloned()));
    }
}

/// Leaves the task to later sessions, if it is as new. Before the call is settled: until then its caller has what it
/// has.
fn leave_task(event_loop: &Bound<'_, PyAny>, session: &Session, call: &Call, spare: &SpareSessions) -> PyResult<bool> {
    let py = event_loop.py();
    let context = session.context.bind(py);
    if !spare.keeps(context) || !reuse::is_possible(event_loop)? || session.is_cancelling(py) {
        return Ok(false);
    }
    let Some((mut own, idle)) = session.take_task() else { return Ok(false) };
    let can_serve = spare.can_have(&mut own, &idle, context).map(|can| can && !call.is_abandoned());
    if let Ok(true) = can_serve {
        session.note_ended();
        serve(&own, py, None);
        spare.keep(py, own, idle, context.clone().unbind());
    } else {
        session.set_task(own, Some(idle));
    }
    can_serve
}

/// The coroutine of a session's task.
// No `__traverse__`: session, task and coroutine refer to each other only until the session ends.
#[pyclass(frozen, module = "syncline._core")]
pub struct SessionCoroutine {
    /// `None` while the task waits for a session (spare_sessions.rs).
    session: Mutex<Option<Arc<Session>>>,
    event_loop: Py<PyAny>,
}

impl SessionCoroutine {
    pub fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    fn current(&self) -> Option<Arc<Execution>> {
        self.session()?.current()
    }

    fn turn<'py>(&self, py: Python<'py>, input: Input<'_, 'py>) -> PyResult<Option<Py<PyAny>>> {
        self.session().map_or(Ok(None), |session| session.turn(self.event_loop.bind(py), input))
    }
}

impl Steppable for SessionCoroutine {
    fn runs_in(&self, strand: StrandId) -> bool {
        self.current().is_some_and(|execution| execution.runs_in(strand))
    }

    /// Here yes; `runs_in` then asks the current step.
    fn nests(&self) -> bool {
        true
    }

    fn is_nested(&self) -> bool {
        self.current().is_some_and(|execution| execution.is_nested())
    }

    fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        self.session().map_or_else(Vec::new, |session| session.layers(py))
    }

    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        waiting_tasks::of(py, &self.session()?.current_call()?)
    }

    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.session()?.name(py)
    }
}

#[pymethods]
impl SessionCoroutine {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.turn(py, Input::Nothing)
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(py, Input::Sent(value))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, _value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = if error.is_instance_of::<pyo3::types::PyType>() { &error.call0()? } else { error };
        self.turn(py, Input::Thrown(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.session().map_or(Ok(()), |session| session.abort(py))
    }

    fn __repr__(&self) -> &'static str {
        "<session>"
    }

    /// For trio's loop, which ends its sessions itself.
    #[getter]
    fn is_idle(&self) -> bool {
        self.session().is_some_and(|session| session.is_idle())
    }

    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.session().map_or(Ok(()), |session| session.end_by_closer(py))
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        parked::of_stack(py, self.layers(py), "cr_frame")
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        parked::of_stack(py, self.layers(py), "cr_await")
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        "session"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "session"
    }
}

impl Drop for SessionCoroutine {
    fn drop(&mut self) {
        // The loop may have been closed with this task pending: whoever waits for a step has to be told.
        errors::in_destructor(|py| {
            if let Err(error) = self.close(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}
