//! Tasks of sessions that are over, for the next ones.
//!
//! Between two steps a session's task sleeps. If its last step was made in the task's stead, and nobody has kept the
//! task, that sleeps on, until the next session on its loop has it. So a session that never suspends costs no task,
//! and one that suspends before its last step leaves its task to the next.
//!
//! Invariants:
//! 1. A task that waits for a session is like one that was not used (reuse.rs). The loop does not list it among its
//!    tasks, and nothing can wake it.
//! 2. A task has one context for all its steps, and between two sessions it must not keep what callers have set. So it
//!    serves sessions with the variables that were set when the loop was made, as spare tasks do. A session has that
//!    context from its beginning, and its task from its first step on; if there is none, both come back.
//! 3. When the loop has ended, there is none.

use super::idle::Idling;
use super::reuse::{self, OurReferences, UseNames};
use crate::python::context::Variables;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};

/// How many tasks wait for sessions at most.
const MOST: usize = 8;

/// When the last step has been made.
const OURS: OurReferences = OurReferences {
    // The session's, that of what wakes it, and that of who makes the step.
    task: 3,
    // The session's, and the task's.
    coroutine: 2,
    // The session's, the task's, that of what wakes it, and that of the caller, who looks what has changed there.
    context: 4,
};

/// The task of a session.
pub struct SessionTask {
    pub task: Py<PyAny>,
    pub coroutine: Py<PyAny>,
    /// Once it has served a session.
    names: Option<UseNames>,
}

impl SessionTask {
    pub fn new(task: Py<PyAny>, coroutine: Py<PyAny>) -> Self {
        Self { task, coroutine, names: None }
    }

    /// It serves one more session: the loop lists it, as one that begins eagerly.
    pub fn begin(&mut self, py: Python<'_>) -> PyResult<()> {
        let task = self.task.bind(py);
        if let Some(names) = &mut self.names {
            names.give_next(task)?;
        }
        names::register_eager_task(py)?.call1((task,)).map(drop)
    }

    /// It has ended. asyncio itself forgets those that have begun as usual.
    pub fn end(&self, py: Python<'_>) {
        let forget = || names::unregister_eager_task(py)?.call1((&self.task,));
        if self.names.is_some()
            && let Err(error) = forget()
        {
            error.write_unraisable(py, None);
        }
    }
}

/// A task that waits for a session.
pub struct SpareSession {
    own: SessionTask,
    context: Py<PyAny>,
    idle: Idling,
}

impl SpareSession {
    pub fn into_parts(self) -> (SessionTask, Idling) {
        (self.own, self.idle)
    }

    /// Nobody misses it, and asyncio should not say that it is pending.
    pub fn discard(self, py: Python<'_>) {
        if let Err(error) = self.own.task.bind(py).setattr(intern!(py, "_log_destroy_pending"), false) {
            error.write_unraisable(py, None);
        }
        self.idle.forget(py);
    }
}

/// A spare task, until the session has it (by 2).
pub struct LentTask {
    from: Arc<SpareSessions>,
    spare: Option<SpareSession>,
}

impl LentTask {
    pub fn take(mut self) -> Option<SpareSession> {
        self.spare.take()
    }
}

impl Drop for LentTask {
    fn drop(&mut self) {
        if let Some(unused) = self.spare.take().and_then(|spare| self.from.put(spare)) {
            errors::in_destructor(|py| unused.discard(py));
        }
    }
}

struct State {
    spare: Vec<SpareSession>,
    is_over: bool,
}

/// Those of one loop.
pub struct SpareSessions {
    /// A context with the variables that were set when the loop was made.
    pub made_in: Py<PyAny>,
    state: Mutex<State>,
}

impl SpareSessions {
    pub fn new(made_in: Py<PyAny>) -> Arc<Self> {
        Arc::new(Self { made_in, state: Mutex::new(State { spare: Vec::new(), is_over: false }) })
    }

    /// For a session with these variables: the context that it has to run in, and the task for it.
    pub fn lend(self: &Arc<Self>, variables: &Bound<'_, PyAny>) -> Option<(Py<PyAny>, LentTask)> {
        if !self.keeps(variables) {
            return None;
        }
        let spare = lock(&self.state).spare.pop()?;
        let context = spare.context.clone_ref(variables.py());
        Some((context, LentTask { from: Arc::clone(self), spare: Some(spare) }))
    }

    /// Whether the context has no other variables than those that were set when the loop was made.
    pub fn keeps(&self, context: &Bound<'_, PyAny>) -> bool {
        Variables::of(context) == Variables::of(self.made_in.bind(context.py()))
    }

    /// Whether the task of a session whose last step was made can serve another one, in that context: then the loop
    /// lists it no more.
    pub fn can_have(&self, own: &mut SessionTask, idle: &Idling, context: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = context.py();
        if !names::has_eager_tasks(py) {
            return Ok(false);
        }
        let task = own.task.bind(py);
        if own.names.is_none() {
            let Some(mut names) = UseNames::of(task)? else { return Ok(false) };
            names.give_next(task)?;
            names::unregister_task(py)?.call1((task,))?;
            own.names = Some(names);
        } else {
            names::unregister_eager_task(py)?.call1((task,))?;
        }
        Ok(idle.is_ours_alone(py) && reuse::is_as_new(task, own.coroutine.bind(py), context, &OURS)?)
    }

    /// Keeps such a task.
    pub fn keep(&self, py: Python<'_>, own: SessionTask, idle: Idling, context: Py<PyAny>) {
        if let Some(unwanted) = self.put(SpareSession { own, context, idle }) {
            unwanted.discard(py);
        }
    }

    /// For a loop that ends.
    pub fn drop_them(&self, py: Python<'_>) {
        let spare = {
            let mut state = lock(&self.state);
            state.is_over = true;
            std::mem::take(&mut state.spare)
        };
        spare.into_iter().for_each(|spare| spare.discard(py));
    }

    /// Gives it back where none is wanted.
    fn put(&self, spare: SpareSession) -> Option<SpareSession> {
        let mut state = lock(&self.state);
        if state.is_over || state.spare.len() >= MOST {
            return Some(spare);
        }
        state.spare.push(spare);
        None
    }
}
