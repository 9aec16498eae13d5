//! In which task and which thread a strand's steps are made.

use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::threads::thread_key;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::OnceLock;

/// Where a strand is stepped.
pub struct Stepper {
    pub thread: u64,
    pub epoch: u32,
    /// The identity of the asyncio task that steps it, once that has been asked for. `Some(None)`: none does.
    pub task: OnceLock<Option<usize>>,
}

impl Stepper {
    pub fn here(py: Python<'_>, owner: Owner) -> Self {
        let task = match owner {
            Owner::WhoeverSteps => OnceLock::from(current_task(py).as_ref().map(identity)),
            Owner::TaskOfOurs => OnceLock::new(),
        };
        Self { thread: thread_key(), epoch: process::epoch(), task }
    }
}

/// Which task a strand belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The task whose coroutine runs in the strand. Which task that is is found out when it is needed.
    TaskOfOurs,
    /// The task that makes the first step.
    WhoeverSteps,
}

pub fn current_task(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // In trio's tasks this raises RuntimeError: no loop of asyncio's runs there. On Python 3.11 it is Python code, in which a
    // signal handler may raise.
    let ask = || match names::current_task(py).and_then(Bound::call0) {
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) || !process::is_main_thread(py) => Ok(None),
        asked => asked.map(Some),
    };
    signals::through(py, ask).flatten()
}

pub fn identity(task: &Bound<'_, PyAny>) -> usize {
    task.as_ptr() as usize
}
