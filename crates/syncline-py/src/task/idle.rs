//! Idling: a task of ours waits until another part of ours wakes it. A session's task does so between two steps, a
//! producer until its buffer has room for an item.

use crate::call::outcome::HAS_TRIO;
use crate::coroutine::driven::{self, Input};
use crate::python::context::Entered;
use crate::python::once::intern;
use crate::python::references;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::types::iterator::PySendResult;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};

/// A wait under way. A task of asyncio's is given a future. trio has no futures: there a coroutine that awaits an event
/// is driven, step by step.
pub struct Idling {
    /// The future, or trio's stand-in for it (python/syncline/_trio.py). `set_result` ends the wait.
    idle: Py<PyAny>,
    /// In trio: the coroutine that awaits the event.
    waiting: Option<Py<PyAny>>,
}

/// What a wait does about the cancellation of its task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It ends the wait, as it ends any other.
    Ends,
    /// The wait goes on. The task keeps the cancellation and delivers it where it suspends next, as if it were running
    /// now.
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
        Self::begin_unless(event_loop, on_cancel, |_| false)
    }

    /// As `begin`. `is_over` gets what wakes the task, and says whether there is nothing to wait for: then the task goes on
    /// in its next turn. That has to be known before the wait begins: a task of trio's that is woken when it waits, but has
    /// not told trio so, can't be cancelled, and trio's run ends where it tries.
    pub fn begin_unless(
        event_loop: &Bound<'_, PyAny>,
        on_cancel: Cancellation,
        is_over: impl FnOnce(&Py<PyAny>) -> bool,
    ) -> PyResult<(Self, Py<PyAny>)> {
        let py = event_loop.py();
        if HAS_TRIO.load(Relaxed)
            && let Some(make) = event_loop.getattr_opt(intern!(py, "make_idle"))?
        {
            let idle = make.call1((on_cancel == Cancellation::IsKept,))?.unbind();
            if is_over(&idle) {
                wake(py, &idle)?;
            }
            let waiting = idle.call_method0(py, intern!(py, "__await__"))?;
            let awaited = waiting.call_method1(py, intern!(py, "send"), (py.None(),))?;
            return Ok((Self { idle, waiting: Some(waiting) }, awaited));
        }
        let idle = match on_cancel {
            Cancellation::Ends => event_loop.call_method0(intern!(py, "create_future"))?,
            Cancellation::IsKept => Bound::new(py, Idle::new(event_loop))?.into_any(),
        };
        let waker = idle.clone().unbind();
        if is_over(&waker) {
            wake(py, &waker)?;
        }
        idle.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok((Self { idle: waker, waiting: None }, idle.unbind()))
    }

    /// What wakes the task, to be used on the loop's thread.
    pub fn waker(&self, py: Python<'_>) -> Py<PyAny> {
        self.idle.clone_ref(py)
    }

    /// Whether nothing but this wait's owner can wake the task: nobody else has what it waits for.
    pub fn is_ours_alone(&self, py: Python<'_>) -> bool {
        // The task has it, too.
        self.waiting.is_none() && references::count(self.idle.bind(py)) == 2
    }

    /// The task is given up, and will never be woken.
    pub fn forget(self, py: Python<'_>) {
        if let Ok(idle) = self.idle.bind(py).cast::<Idle>() {
            drop(Idle::wake_up(idle));
        }
    }

    /// The task has its turn, and was sent or thrown `input`. What of that is meant for this wait is taken out of it.
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

/// What a session's task waits for between steps: has what asyncio's tasks ask of a future, and is cheaper to make.
///
/// It refuses to be cancelled. The task then keeps the cancellation until it suspends again, as if it ran meanwhile.
// No `__traverse__`: session, task and this refer to each other only until the session ends.
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

/// Wakes the task and has it take its turn before this returns. For the loop's thread, at a moment when no task runs.
pub fn go_on(py: Python<'_>, waker: &Py<PyAny>) -> PyResult<()> {
    let Ok(idle) = waker.bind(py).cast::<Idle>() else { return wake(py, waker) };
    let Some((callback, context)) = Idle::wake_up(idle) else { return Ok(()) };
    let _entered = Entered::new(context.bind(py))?;
    callback.bind(py).call1((idle,)).map(drop)
}

/// Wakes the task, which takes its turn later. Does nothing the second time.
pub fn wake(py: Python<'_>, waker: &Py<PyAny>) -> PyResult<()> {
    if waker.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    waker.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
}
