//! A session: many steps, one task.
//!
//! Contextvars' tokens, cancel scopes, `asyncio.timeout` and task groups belong to a task. So all steps of a generator,
//! and the entering and leaving of a manager, are made in one: that of a session. Between steps the task sleeps.
//!
//! A step begins outside of the task's own turns. The loop's thread enters the task for it, as asyncio does before each
//! turn. So a step that never suspends costs no turn of the loop. If it suspends, the task is woken and told what to
//! wait for.
//!
//! Invariants:
//! 1. All steps are made on the loop's thread, one at a time.
//! 2. Between steps the task waits for a future that refuses to be cancelled. The task then keeps a cancellation, and
//!    delivers it where the next step suspends, as it does for code that runs without awaiting.
//! 3. The task ends with the session, and never by an error: after the last step, or, if the loop ends first, after
//!    what the session has left to be done in that case (its closer).

use super::cancelling::{cancels, is_asyncios, is_cancelled_error, is_repeated, keep};
use super::closer::Closer;
use super::spare_sessions::{LentTask, SessionTask};
use crate::call::outcome::{Outcome, cancelled_error, is_trio_cancelled};
use crate::call::state::Call;
use crate::coroutine::driven::Input;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::once::intern;
use crate::python::signals;
use crate::switch::parked::LayerView;
use crate::switch::stepper::Owner;
use crate::task::execution::{Execution, Step, as_the_task};
use crate::task::idle::{self, Cancellation, Idled, Idling};
use crate::task::loops;
use crate::task::shown;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefReference};
use std::any::Any;
use std::sync::{Arc, OnceLock};
use syncline_core::sync::{Mutex, lock};

#[derive(Default)]
struct State {
    /// The task of an earlier session, until this one takes it.
    lent: Option<LentTask>,
    task: Option<SessionTask>,
    /// The wait between two steps (2).
    idle: Option<Idling>,
    current: Option<Arc<Execution>>,
    /// What the current step waits for, until the task has been told.
    handed_over: Option<Py<PyAny>>,
    closer: Option<Closer>,
    /// Whether the last step returned.
    returned: bool,
    /// No step comes after the current one.
    ending: bool,
    ended: bool,
}

pub struct Session {
    pub context: Py<PyAny>,
    /// Tokens that unset the context variables which steps of this session have set for the caller.
    pub unset: Py<PyDict>,
    /// The native async generator that is iterated over: when it ends, by whatever error, the session does. Weak, for
    /// the reason that `Closer::CloseIfAlive` gives.
    generator: Option<Py<PyWeakrefReference>>,
    /// Where it went before its first step: a runner, which is defined in a room that this one must not use.
    home: OnceLock<Box<dyn Any + Send + Sync>>,
    state: Mutex<State>,
}

impl Session {
    /// With `lent`, in its context.
    pub fn new(
        py: Python<'_>,
        context: Py<PyAny>,
        lent: Option<LentTask>,
        generator: Option<Py<PyWeakrefReference>>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { lent, ..State::default() });
        Arc::new(Self { context, unset: PyDict::new(py).unbind(), generator, home: OnceLock::new(), state })
    }

    /// Whether no step has begun.
    pub fn is_new(&self) -> bool {
        let state = lock(&self.state);
        state.task.is_none() && state.current.is_none() && !state.ended
    }

    /// Whether it may go to another loop: no step has begun, and it has not gone to one before.
    pub fn is_movable(&self) -> bool {
        self.is_new() && self.home().is_none()
    }

    /// It goes to another loop, before its first step. What it was lent is of the loop that was to have it.
    pub fn move_to(&self, py: Python<'_>, home: Box<dyn Any + Send + Sync>) {
        let _ = self.home.set(home);
        if let Some(spare) = self.take_lent().and_then(LentTask::take) {
            spare.discard(py);
        }
    }

    pub fn home(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.home.get().map(|home| &**home)
    }

    /// Whether no more steps can come.
    pub fn is_ending(&self) -> bool {
        lock(&self.state).ending
    }

    pub fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// Whether the last step that came to its end returned, whatever its caller was told.
    pub fn has_returned(&self) -> bool {
        lock(&self.state).returned
    }

    /// Sets the closer: what is to be done if the loop ends before the session. For any thread.
    pub fn on_shutdown(&self, closer: Closer) {
        let replaced = lock(&self.state).closer.replace(closer);
        drop(replaced);
    }

    pub fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.current.is_none() && !state.ended
    }

    pub fn current_call(&self) -> Option<Arc<Call>> {
        self.current().map(|execution| Arc::clone(&execution.call))
    }

    /// Whether a step can be made. If not, this has seen to its call. Gives the target back if so.
    pub fn admit(&self, py: Python<'_>, call: &Arc<Call>, target: Target, is_last: bool) -> Option<Target> {
        if self.has_ended() {
            target.discard(py);
            // Whoever has left need not be told.
            let is_told = !call.is_abandoned();
            let error = if is_told { errors::closed_meanwhile(py, &call.runner_name()) } else { cancelled_error(py) };
            call.settle(py, Outcome::Raised(error));
            return None;
        }
        if self.current_call().is_some() {
            // One step at a time (1). Whoever waited for the one under way has left: a second Ctrl-C, the end of its
            // cleanup time, or the object was dropped while its producer is in the middle of a step.
            if !is_last {
                target.discard(py);
                call.settle(py, Outcome::Raised(errors::step_under_way()));
                return None;
            }
            // It comes after that one. Nobody waits for it, as that one was not to be waited for any more.
            self.on_shutdown(Closer::Last(target));
            self.end_after_this_step();
            call.settle(py, Outcome::Returned(py.None()));
            return None;
        }
        Some(target)
    }

    /// Makes a step. `enters` says whether it may begin right here, in the task's stead: the loop counts as running in
    /// this thread, and no task is in the middle of a step. Otherwise the task is woken, and makes it in its next turn.
    /// Returns the outcome of a step that is over, for its call, and whether it was the last one.
    pub fn step(
        self: &Arc<Self>,
        event_loop: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        call: &Arc<Call>,
        target: Target,
        is_last: bool,
        enters: bool,
    ) -> PyResult<Option<(Outcome, bool)>> {
        let py = event_loop.py();
        let execution = Arc::new(Execution::new(Arc::clone(call), target, loops::owner(event_loop)));
        let done_by_this_step = {
            let mut state = lock(&self.state);
            state.current = Some(Arc::clone(&execution));
            state.ending |= is_last;
            if is_last { state.closer.take() } else { None }
        };
        drop(done_by_this_step);
        if !enters {
            call.suspended_in(task.clone());
            return self.wake(py).map(|()| None);
        }
        let step = as_the_task(event_loop, task, &self.context, || execution.send(py.None().bind(py)))?;
        match step {
            Step::Awaits(awaited) => {
                lock(&self.state).handed_over = Some(awaited);
                call.suspended_in(task.clone());
                self.go_on(py).map(|()| None)
            }
            Step::Ended(outcome) => {
                let was_last = self.note_end(py, call, &outcome);
                Ok(Some((outcome, was_last)))
            }
        }
    }

    /// Ends a session that has nothing left to do.
    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        let closer = {
            let mut state = lock(&self.state);
            state.ending = true;
            state.closer.take()
        };
        drop(closer);
        self.wake(py)
    }

    /// For a loop that ends: after the current step nothing follows but the closer.
    pub fn end_after_this_step(&self) {
        lock(&self.state).ending = true;
    }

    /// The same for a session between two steps: its task wakes up and does the closer.
    pub fn end_by_closer(&self, py: Python<'_>) -> PyResult<()> {
        self.end_after_this_step();
        self.wake(py)
    }

    pub fn take_lent(&self) -> Option<LentTask> {
        lock(&self.state).lent.take()
    }

    /// It has a task, which waits already if `idle` is there.
    pub fn set_task(&self, task: SessionTask, idle: Option<Idling>) {
        let replaced = {
            let mut state = lock(&self.state);
            let idle = idle.and_then(|idle| state.idle.replace(idle));
            (state.task.replace(task), idle)
        };
        drop(replaced);
    }

    /// Takes the task of a session that has nothing left to do, and what it waits for.
    pub fn take_task(&self) -> Option<(SessionTask, Idling)> {
        let mut state = lock(&self.state);
        if !state.ending || state.current.is_some() || !matches!(state.closer, None | Some(Closer::Nothing)) {
            return None;
        }
        let idle = state.idle.take()?;
        state.task.take().map(|own| (own, idle))
    }

    /// The task serves others.
    pub fn note_ended(&self) {
        lock(&self.state).ended = true;
    }

    /// The making of the task was broken off by a signal handler's exception. Where it has begun all the same, it ends,
    /// and the session is as before.
    pub fn dismiss_task(&self, py: Python<'_>) {
        lock(&self.state).ended = true;
        signals::through(py, || self.go_on(py));
        lock(&self.state).ended = false;
    }

    /// Has the task take its turn at once. For a moment when no task runs.
    pub fn go_on(&self, py: Python<'_>) -> PyResult<()> {
        let waker = lock(&self.state).idle.as_ref().map(|idle| idle.waker(py));
        waker.map_or(Ok(()), |waker| idle::go_on(py, &waker))
    }

    /// Has the task take its turn later.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waker = lock(&self.state).idle.as_ref().map(|idle| idle.waker(py));
        // If it doesn't wait, it has not had its first turn yet or is having one, and will see by itself what to do.
        waker.map_or(Ok(()), |waker| idle::wake(py, &waker))
    }

    /// Whether no step can follow the one that raised this: the iterator or the generator is at its end.
    pub fn is_over_by(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance_of::<PyStopAsyncIteration>(py)
            || shown::generator(py, self.generator.as_ref())
                .is_some_and(|generator| generator.getattr(intern!(py, "ag_frame")).is_ok_and(|frame| frame.is_none()))
    }

    /// The step is over. Its call is to be settled after this: from then on the caller may send the next step.
    /// Returns whether none comes any more.
    fn note_end(&self, py: Python<'_>, call: &Call, outcome: &Outcome) -> bool {
        let is_over = matches!(outcome, Outcome::Raised(error) if self.is_over_by(py, error));
        let (task, freed, is_ending) = {
            let mut state = lock(&self.state);
            state.returned = matches!(outcome, Outcome::Returned(_));
            state.ending |= is_over;
            let freed =
                (state.current.take(), state.handed_over.take(), if is_over { state.closer.take() } else { None });
            (state.task.as_ref().map(|own| own.task.clone_ref(py)), freed, state.ending)
        };
        drop(freed);
        // Our cancellations were meant for this step alone, so they are taken back: in later steps, timeouts and cancel
        // scopes would take them for their own. The same goes for the one cancellation by a trio loop that ends.
        let cancelled_by_loop = matches!(outcome, Outcome::Raised(error) if is_trio_cancelled(py, error)).into();
        for _ in 0..call.take_cancellations().max(cancelled_by_loop) {
            if let Some(task) = &task
                && let Err(error) = task.call_method0(py, intern!(py, "uncancel"))
            {
                error.write_unraisable(py, Some(task.bind(py)));
            }
        }
        is_ending
    }

    /// One turn of the task. `None` when it is over.
    pub fn turn<'py>(&self, event_loop: &Bound<'py, PyAny>, input: Input<'_, 'py>) -> PyResult<Option<Py<PyAny>>> {
        let py = event_loop.py();
        let mut input = input;
        let idle = lock(&self.state).idle.take();
        let was_idle = idle.is_some();
        if let Some(idle) = idle {
            match idle.go_on(py, &mut input) {
                Ok(Idled::Awaits(awaited)) => {
                    lock(&self.state).idle = Some(idle);
                    return Ok(Some(awaited));
                }
                Ok(Idled::Over) => {}
                // The trio run ends, and cancels even this wait.
                Err(error) => {
                    self.abort(py)?;
                    return Err(error);
                }
            }
        }
        loop {
            let (handed_over, current) = {
                let mut state = lock(&self.state);
                (state.handed_over.take(), state.current.clone())
            };
            let Some(execution) = current else {
                // It came before the task's first turn.
                if let Input::Thrown(error) = std::mem::replace(&mut input, Input::Nothing) {
                    self.keep(py, error);
                }
                match self.next_of_its_own(py) {
                    Some(execution) => lock(&self.state).current = Some(Arc::new(execution)),
                    None if lock(&self.state).ended => {
                        self.forget_task(py);
                        return Ok(None);
                    }
                    None => return self.rest(event_loop).map(Some),
                }
                continue;
            };
            // It came between two steps, and this one begins in a turn of the task: before it has the cancellation.
            let begins = was_idle
                && matches!(&input, Input::Thrown(error) if is_asyncios(error))
                && handed_over.is_none()
                && !execution.has_begun(py)
                && !execution.call.was_cancelled();
            let begun = if begins { Some(execution.send(py.None().bind(py))) } else { handed_over.map(Step::Awaits) };
            let step = match (begun, std::mem::replace(&mut input, Input::Nothing)) {
                // Cancelled before the task was told what to wait for. A task cancels what it waits for; so does this.
                (Some(Step::Awaits(awaited)), Input::Thrown(error)) if is_cancelled_error(error) => {
                    // The step may have taken it back before it suspended, as a group does that is left.
                    let is_stale = is_repeated(error) || !self.is_cancelling(py);
                    if is_stale || cancels(awaited.bind(py), error) {
                        Step::Awaits(awaited)
                    } else {
                        execution.throw(error, None, None)
                    }
                }
                (Some(Step::Ended(outcome)), Input::Thrown(error)) => {
                    self.keep(py, error);
                    Step::Ended(outcome)
                }
                (_, Input::Thrown(error)) => execution.throw(error, None, None),
                (Some(step), _) => step,
                (None, Input::Sent(value)) => execution.send(value),
                (None, Input::Nothing) => execution.send(py.None().bind(py)),
            };
            match step {
                Step::Awaits(awaited) => return Ok(Some(awaited)),
                Step::Ended(outcome) => {
                    self.note_end(py, &execution.call, &outcome);
                    execution.call.settle(py, outcome);
                }
            }
        }
    }

    /// What is still to be done once no more steps come: the closer (3).
    fn next_of_its_own(&self, py: Python<'_>) -> Option<Execution> {
        let closer = {
            let mut state = lock(&self.state);
            if !state.ending {
                return None;
            }
            // A manager that its last step has not entered is not to be left.
            let has_returned = state.returned;
            let closer = state.closer.take().filter(|closer| has_returned || !matches!(closer, Closer::Leave(_)));
            state.ended = closer.is_none();
            closer
        };
        let Some(target) = closer.and_then(|closer| closer.target_or_report(py)) else {
            lock(&self.state).ended = true;
            return None;
        };
        // This call does not count as one of the loop that ends: its cleanup must not cancel what it waits for itself.
        let call = Call::for_nobody(&"a loop that shuts down".into());
        Some(Execution::new(call, target, Owner::WhoeverSteps))
    }

    /// Begins the wait for the next step, by 2. Returns what the task is told to wait for.
    fn rest(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (idle, awaited) = Idling::begin(event_loop, Cancellation::IsKept)?;
        lock(&self.state).idle = Some(idle);
        Ok(awaited)
    }

    /// Has the task keep a cancellation that it was given in a turn without a step (2).
    fn keep(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        if is_asyncios(error)
            && !is_repeated(error)
            && let Some(task) = self.known_task(py).filter(|_| self.is_cancelling(py))
        {
            keep(task.bind(py), error);
        }
    }

    /// Whether the task was cancelled and that has not been taken back by `uncancel`. Before Python 3.13 a task throws
    /// a cancellation even if it was taken back.
    pub fn is_cancelling(&self, py: Python<'_>) -> bool {
        let asked = self.known_task(py).map(|task| task.call_method0(py, intern!(py, "cancelling")));
        // Our tasks in trio have no such method: there the answer is no.
        asked.is_none_or(|asked| asked.is_ok_and(|count| count.is_truthy(py).unwrap_or(true)))
    }

    pub fn is_task(&self, task: &Bound<'_, PyAny>) -> bool {
        lock(&self.state).task.as_ref().is_some_and(|own| own.task.is(task))
    }

    /// Another task takes the place of the session's, which lost its step.
    pub fn goes_on_in(&self, task: &Bound<'_, PyAny>) {
        let replacement = task.clone().unbind();
        let replaced = match &mut lock(&self.state).task {
            Some(own) => std::mem::replace(&mut own.task, replacement),
            None => replacement,
        };
        drop(replaced);
    }

    /// The session's task, once it has one.
    pub fn known_task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.state).task.as_ref().map(|own| own.task.clone_ref(py))
    }

    pub fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        shown::layers(py, self.generator.as_ref(), self.current())
    }

    /// The name of what its present step is a part of.
    pub fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        shown::name(py, self.generator.as_ref(), self.current())
    }

    pub fn current(&self) -> Option<Arc<Execution>> {
        lock(&self.state).current.clone()
    }

    /// Opens a ring: a task keeps its coroutine even when it has ended, and the coroutine keeps the session.
    fn forget_task(&self, py: Python<'_>) {
        let own = lock(&self.state).task.take();
        if let Some(own) = own {
            own.end(py);
        }
    }

    /// The task is gone, and with it all that the session still had to do. Its current step is closed.
    pub fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let (current, freed) = {
            let mut state = lock(&self.state);
            state.ended = true;
            (state.current.take(), (state.idle.take(), state.handed_over.take(), state.closer.take()))
        };
        drop(freed);
        self.forget_task(py);
        current.map_or(Ok(()), |execution| execution.close(py))
    }
}
