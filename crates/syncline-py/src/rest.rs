//! A task of ours waits until it is woken: between a session's steps, or until there is room for an item.

use crate::names;
use crate::once::intern;
use crate::source::{self, Input};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::types::iterator::PySendResult;

/// asyncio's task is told of a future. In trio there are none: an event is awaited, step by step.
pub struct Rest {
    /// Has `set_result`.
    idle: Py<PyAny>,
    waiting: Option<Py<PyAny>>,
}

/// What a wait does about the cancellation of its task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// As any other.
    End,
    /// The task keeps it until it suspends again, as if it ran meanwhile.
    Stay,
}

/// What became of a wait that the task went on with.
pub enum Rested {
    /// For the task: it still waits.
    Awaits(Py<PyAny>),
    Over,
}

impl Rest {
    /// Begins to wait; returns what the task is told.
    pub fn begin(event_loop: &Bound<'_, PyAny>, on_cancel: OnCancel) -> PyResult<(Self, Py<PyAny>)> {
        let py = event_loop.py();
        if let Some(make) = event_loop.getattr_opt(intern!(py, "make_idle"))? {
            let idle = make.call0()?;
            let waiting = idle.call_method0(intern!(py, "__await__"))?;
            let awaited = waiting.call_method1(intern!(py, "send"), (py.None(),))?.unbind();
            return Ok((Self { idle: idle.unbind(), waiting: Some(waiting.unbind()) }, awaited));
        }
        let idle = match on_cancel {
            OnCancel::End => event_loop.call_method0(intern!(py, "create_future"))?,
            OnCancel::Stay => {
                let options = PyDict::new(py);
                options.set_item(intern!(py, "loop"), event_loop)?;
                names::idle(py)?.call((), Some(&options))?
            }
        };
        idle.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok((Self { idle: idle.clone().unbind(), waiting: None }, idle.unbind()))
    }

    /// What wakes the task; for the loop's thread.
    pub fn waker(&self, py: Python<'_>) -> Py<PyAny> {
        self.idle.clone_ref(py)
    }

    /// The task has its turn, with what it was sent or thrown; either is taken if it is for this wait.
    pub fn go_on<'py>(&self, py: Python<'py>, input: &mut Input<'_, 'py>) -> PyResult<Rested> {
        let Some(waiting) = &self.waiting else {
            if let Input::Sent(_) = input {
                *input = Input::Nothing;
            }
            return Ok(Rested::Over);
        };
        match source::step(waiting.bind(py), std::mem::replace(input, Input::Nothing))? {
            PySendResult::Next(awaited) => Ok(Rested::Awaits(awaited.unbind())),
            PySendResult::Return(_) => Ok(Rested::Over),
        }
    }
}

/// Wakes what waits; at most once.
pub fn wake(py: Python<'_>, waker: &Py<PyAny>) -> PyResult<()> {
    if waker.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    waker.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
}
