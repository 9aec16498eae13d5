//! Spare tasks: a call that never suspends runs as a task that is used again for the next one.
//!
//! To make a task, and to end it, costs ten times as much as to enter one, as asyncio does before each of its steps. So
//! a loop of a bridge's has a task in reserve. The call's first step is made in its stead. If that was all, and
//! nobody has kept the task, it is as before, and serves the next call.
//!
//! Invariants:
//! 1. A spare task has not begun: its first step is in our hands, not in the loop's queue, and the loop does not list it
//!    among its tasks. While a call runs as it, it is listed as one that begins eagerly, and is the current task.
//! 2. It is used again only if nothing tells that it was used (reuse.rs), and its context is as it was.
//! 3. In any other case, and if the call suspends, it begins, and is a task like all others.
//! 4. A task has one context for all its steps, and between two calls a spare one must not keep what callers have set. So
//!    it serves calls with the variables that were set when the loop was made: those the loop keeps anyway.
//! 5. The spare task's context is lent to one call at a time, until its caller has seen what has changed there: callers
//!    of other threads may call at the same time.

use super::bridged::BridgedCoroutine;
use super::fresh::{start_task, task_was_lost};
use super::loops;
use super::making::real_error;
use super::reuse::{self, OurReferences, UseNames};
use super::spare_sessions::SpareSessions;
use crate::call::caller::serve_asgiref;
use crate::call::state::Call;
use crate::coroutine::target::Target;
use crate::python::context::{self, Entered};
use crate::python::names;
use crate::python::once::intern;
use crate::task::execution::{Execution, as_the_task};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};

/// To make a spare task and to use it once costs as much more than to make a usual one as four calls in it save. So one is
/// made after so many calls that did not suspend. If it serves fewer calls itself, the next one is made after twice as many.
const ENOUGH: u32 = 4;
const MOST: u32 = 4096;

/// While its call is under way.
const OURS: OurReferences = OurReferences {
    // The spare's, and its first step's.
    task: 2,
    // The spare's, and the task's.
    coroutine: 2,
    // The spare's, the task's, the call's, and that of who carries the call out.
    context: 4,
};

struct Spare {
    task: Py<PyAny>,
    coroutine: Py<BridgedCoroutine>,
    context: Py<PyAny>,
    first_step: Py<PyAny>,
    names: UseNames,
}

/// While it lives, a call has the spare task's context.
pub struct Lent(Arc<SpareTask>);

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.0.state).is_lent = false;
    }
}

/// A loop's spare task, once there is one.
pub struct SpareTask {
    state: Mutex<State>,
    /// The tasks in reserve for sessions, which know with which variables the loop was made.
    pub sessions: Arc<SpareSessions>,
}

struct State {
    spare: Option<Spare>,
    /// Whether a call has the spare task's context, by 5.
    is_lent: bool,
    /// How many calls have run without suspending, one after the other, since there is no spare task.
    seen: u32,
    /// How many are enough to make one.
    enough: u32,
}

impl SpareTask {
    /// For a new loop of the calling thread's.
    pub fn new(py: Python<'_>) -> PyResult<Arc<Self>> {
        let state = Mutex::new(State { spare: None, is_lent: false, seen: 0, enough: ENOUGH });
        Ok(Arc::new(Self { sessions: SpareSessions::new(context::copy_current(py)?.unbind()), state }))
    }

    /// The context that a call has to run in to be made as the spare task, for the next call (by 5).
    pub fn lend<'py>(self: &Arc<Self>, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Lent)> {
        let mut state = lock(&self.state);
        if state.is_lent {
            return None;
        }
        let context = state.spare.as_ref()?.context.bind(py).clone();
        state.is_lent = true;
        Some((context, Lent(Arc::clone(self))))
    }

    /// For a loop that ends.
    pub fn drop_it(&self, py: Python<'_>) {
        let spare = lock(&self.state).spare.take();
        drop(spare);
        self.sessions.drop_them(py);
    }

    /// Takes the spare task if its context is that one.
    fn take_for(&self, context: &Py<PyAny>) -> Option<Spare> {
        let mut state = lock(&self.state);
        if state.spare.as_ref().is_some_and(|spare| spare.context.is(context)) { state.spare.take() } else { None }
    }

    /// Whether a spare task is worth to be made, for calls in such a context (by 4).
    fn is_due(&self, context: &Bound<'_, PyAny>) -> bool {
        let is_due = {
            let state = lock(&self.state);
            state.spare.is_none() && state.seen >= state.enough
        };
        is_due && self.sessions.keeps(context)
    }

    fn note_seen(&self, suspended: bool) {
        let mut state = lock(&self.state);
        state.seen = if suspended { 0 } else { state.seen.saturating_add(1) };
    }

    /// A spare task is none any more, after so many calls.
    fn note_used_up(&self, calls: u32) {
        let mut state = lock(&self.state);
        state.seen = 0;
        state.enough = if calls > ENOUGH { ENOUGH } else { MOST.min(state.enough * 2) };
    }

    /// Starts the call; for a moment when the loop counts as running in this thread, and no task is in the middle of a
    /// step. As `start_task`.
    pub fn start(
        &self,
        event_loop: &Bound<'_, PyAny>,
        call: &Arc<Call>,
        target: Target,
        context: &Py<PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        if !reuse::is_possible(event_loop)? {
            return start_task(event_loop, call, target, context);
        }
        if let Some(spare) = self.take_for(context) {
            return self.run_as(event_loop, call, target, spare);
        }
        let mut target = target;
        if self.is_due(context.bind(py)) {
            let made = Spare::make(event_loop, self.sessions.made_in.bind(py)).map_err(|error| real_error(py, error));
            let (returned, made) = target.with(py, made)?;
            target = returned;
            lock(&self.state).spare = made;
        }
        let started = start_task(event_loop, call, target, context);
        self.note_seen(!call.is_settled());
        started
    }

    fn run_as(&self, event_loop: &Bound<'_, PyAny>, call: &Arc<Call>, target: Target, spare: Spare) -> PyResult<()> {
        let py = event_loop.py();
        let mut spare = spare;
        serve_asgiref(spare.context.bind(py), call)?;
        let execution = Arc::new(Execution::new(Arc::clone(call), target, loops::owner(event_loop)));
        spare.coroutine.get().run(execution);
        spare.names.give_next(spare.task.bind(py))?;
        // A caller who has gone on has dropped its reference to the context: somebody else's would count in its place.
        if spare.step(event_loop)?
            && !call.is_abandoned()
            && spare.is_unused(py)?
            && self.sessions.keeps(spare.context.bind(py))
        {
            spare.coroutine.get().rest();
            // There is no other: nobody else makes calls on this loop meanwhile.
            lock(&self.state).spare = Some(spare);
            return Ok(());
        }
        self.note_used_up(spare.names.uses());
        match spare.begin(py) {
            Ok(()) => {
                call.suspended_in(spare.task.into_bound(py));
                Ok(())
            }
            Err(error) => task_was_lost(event_loop, call, spare.coroutine.bind(py), &spare.context, error),
        }
    }
}

impl Spare {
    /// `None` if the loop has put the first step where it is not found.
    fn make(event_loop: &Bound<'_, PyAny>, made_in: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = event_loop.py();
        let context = &context::copy_of(made_in)?.unbind();
        let class = names::task(py)?;
        let task = class.call_method1(intern!(py, "__new__"), (class,))?;
        let made = Self::make_of(&task, event_loop, context);
        if made.is_err() {
            // A signal handler has raised in asyncio's code. Nobody misses the task, and asyncio should not say so.
            task.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        made
    }

    fn make_of(task: &Bound<'_, PyAny>, event_loop: &Bound<'_, PyAny>, context: &Py<PyAny>) -> PyResult<Option<Self>> {
        let py = event_loop.py();
        let coroutine = Bound::new(py, BridgedCoroutine::spare())?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), event_loop)?;
        options.set_item(intern!(py, "context"), context)?;
        task.call_method(intern!(py, "__init__"), (&coroutine,), Some(&options))?;
        let queue = event_loop.getattr(intern!(py, "_ready"))?;
        let handle = queue.call_method0(intern!(py, "pop"))?;
        let first_step = handle.getattr(intern!(py, "_callback"))?;
        if !first_step.getattr_opt(intern!(py, "__self__"))?.is_some_and(|stepped| stepped.is(task)) {
            queue.call_method1(intern!(py, "append"), (handle,))?;
            return Ok(None);
        }
        drop(handle);
        names::unregister_task(py)?.call1((task,))?;
        task.setattr(intern!(py, "_log_destroy_pending"), false)?;
        let Some(names) = UseNames::of(task)? else { return Ok(None) };
        let spare = Self {
            task: task.clone().unbind(),
            coroutine: coroutine.unbind(),
            context: context.clone_ref(py),
            first_step: first_step.unbind(),
            names,
        };
        Ok(Some(spare))
    }

    /// Makes the call's first step in the task's stead. Returns whether that was all.
    fn step(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = event_loop.py();
        let task = self.task.bind(py);
        names::register_eager_task(py)?.call1((task,))?;
        let made = as_the_task(event_loop, task, &self.context, || self.coroutine.get().step_before(py));
        names::unregister_eager_task(py)?.call1((task,))?;
        made
    }

    /// By 2. A task that was cancelled keeps that until its next step, which a spare task has not.
    fn is_unused(&self, py: Python<'_>) -> PyResult<bool> {
        reuse::is_as_new(self.task.bind(py), self.coroutine.bind(py), self.context.bind(py), &OURS)
    }

    /// By 3. It learns what came of the step that was made in its stead.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let task = self.task.bind(py);
        names::register_task(py)?.call1((task,))?;
        task.setattr(intern!(py, "_log_destroy_pending"), true)?;
        let _entered = Entered::new(self.context.bind(py))?;
        self.first_step.call0(py).map(drop)
    }
}
