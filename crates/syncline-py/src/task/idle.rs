//! A task of ours waits until it is woken: between a session's steps, or until there is room for an item.

use crate::call::outcome::HAS_TRIO;
use crate::coroutine::driven::{self, Input};
use crate::python::context::Entered;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::types::iterator::PySendResult;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};

/// asyncio's task is told of a future. In trio there are none: an event is awaited, step by step.
pub struct Idling {
    /// Has `set_result`.
    idle: Py<PyAny>,
    waiting: Option<Py<PyAny>>,
}

/// What a wait does about the cancellation of its task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// As any other.
    Ends,
    /// The task keeps it until it suspends again, as if it ran meanwhile.
    IsKept,
}

/// What became of a wait that the task went on with.
pub enum Idled {
    /// For the task: it still waits.
    Awaits(Py<PyAny>),
    Over,
}

impl Idling {
    /// Begins to wait; returns what the task is told.
    pub fn begin(event_loop: &Bound<'_, PyAny>, on_cancel: Cancellation) -> PyResult<(Self, Py<PyAny>)> {
        let py = event_loop.py();
        if HAS_TRIO.load(Relaxed)
            && let Some(make) = event_loop.getattr_opt(intern!(py, "make_idle"))?
        {
            let idle = make.call1((on_cancel == Cancellation::IsKept,))?;
            let waiting = idle.call_method0(intern!(py, "__await__"))?;
            let awaited = waiting.call_method1(intern!(py, "send"), (py.None(),))?.unbind();
            return Ok((Self { idle: idle.unbind(), waiting: Some(waiting.unbind()) }, awaited));
        }
        let idle = match on_cancel {
            Cancellation::Ends => event_loop.call_method0(intern!(py, "create_future"))?,
            Cancellation::IsKept => Bound::new(py, Idle::new(event_loop))?.into_any(),
        };
        idle.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok((Self { idle: idle.clone().unbind(), waiting: None }, idle.unbind()))
    }

    /// What wakes the task; for the loop's thread.
    pub fn waker(&self, py: Python<'_>) -> Py<PyAny> {
        self.idle.clone_ref(py)
    }

    /// The task has its turn, with what it was sent or thrown; either is taken if it is for this wait.
    pub fn go_on<'py>(&self, py: Python<'py>, input: &mut Input<'_, 'py>) -> PyResult<Idled> {
        let Some(waiting) = &self.waiting else {
            if let Input::Sent(_) = input {
                *input = Input::Nothing;
            }
            return Ok(Idled::Over);
        };
        match driven::step(waiting.bind(py), std::mem::replace(input, Input::Nothing))? {
            PySendResult::Next(awaited) => Ok(Idled::Awaits(awaited.unbind())),
            PySendResult::Return(_) => Ok(Idled::Over),
        }
    }
}

/// What a session's task waits for between steps: a future as far as asyncio's tasks look, and cheaper to make.
///
/// It refuses to be cancelled. The task then keeps the cancellation until it suspends again, as if it ran meanwhile.
// No `__traverse__`: the session has its task until it ends.
#[pyclass(frozen, module = "syncline._core")]
pub struct Idle {
    event_loop: Py<PyAny>,
    is_blocking: AtomicBool,
    is_done: AtomicBool,
    /// The task's wake-up, and the context for it.
    callback: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

impl Idle {
    fn new(event_loop: &Bound<'_, PyAny>) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            is_blocking: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
            callback: Mutex::new(None),
        }
    }

    fn wake_up(slf: &Bound<'_, Self>) -> Option<(Py<PyAny>, Py<PyAny>)> {
        slf.get().is_done.store(true, Relaxed);
        lock(&slf.get().callback).take()
    }

    fn schedule(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), context)?;
        let event_loop = slf.get().event_loop.bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (callback, slf), Some(&options)).map(drop)
    }
}

#[pymethods]
impl Idle {
    #[getter]
    fn _asyncio_future_blocking(&self) -> bool {
        self.is_blocking.load(Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, is_blocking: bool) {
        self.is_blocking.store(is_blocking, Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context))]
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
        if slf.get().is_done.load(Relaxed) {
            return Self::schedule(slf, callback, context);
        }
        let replaced = lock(&slf.get().callback).replace((callback, context));
        drop(replaced);
        Ok(())
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(&self, msg: Option<&Bound<'_, PyAny>>) -> bool {
        let _ = msg;
        false
    }

    fn done(&self) -> bool {
        self.is_done.load(Relaxed)
    }

    fn set_result(slf: &Bound<'_, Self>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = result;
        Self::wake_up(slf).map_or(Ok(()), |(callback, context)| Self::schedule(slf, callback, context))
    }

    fn result(&self) {}

    fn __repr__(&self) -> &'static str {
        "<between two steps of a session>"
    }
}

/// As [`wake`], and has the task take its turn before this returns: for the loop's thread, where no task runs.
pub fn go_on(py: Python<'_>, waker: &Py<PyAny>) -> PyResult<()> {
    let Ok(idle) = waker.bind(py).cast::<Idle>() else { return wake(py, waker) };
    let Some((callback, context)) = Idle::wake_up(idle) else { return Ok(()) };
    let _entered = Entered::new(context.bind(py))?;
    callback.bind(py).call1((idle,)).map(drop)
}

/// Wakes what waits; at most once.
pub fn wake(py: Python<'_>, waker: &Py<PyAny>) -> PyResult<()> {
    if waker.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    waker.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
}
