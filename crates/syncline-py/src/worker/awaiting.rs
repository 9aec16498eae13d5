//! What a task awaits that another thread brings to its end.
//!
//! There is one awaitable for all such operations. In asyncio it gives the task a future, which is settled at the end.
//! In trio `wait_for` in _trio.py does the same with an event, and keeps trio's rules for checkpoints.
//!
//! Invariants:
//! 1. All of it happens on the loop's thread, the waking of the task included.
//! 2. An operation that has begun ends once: by `end`, or by `cancel` if the task stops waiting first.
//! 3. Some operations clean up before they end: if the task is cancelled, it tells them, and goes on waiting for their
//!    end, for a limited time. Cancelled again, it does the same: to tell them twice would break off the cleanup.

use super::inbox::{Inbox, here};
use crate::call::outcome::{Outcome, is_cancelled, is_ordinary, whatever_became};
use crate::call::wait::FOR_EVER;
use crate::coroutine::driven::{self, Input};
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::is_in_trio_task;
use crate::task::cancelling::is_repeated;
use crate::task::idle;
use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use syncline_core::sync::{Mutex, lock, replace, take};

/// What wakes the task that awaits an operation, once that is known.
#[derive(Default)]
pub struct Waker(Mutex<Option<Py<PyAny>>>);

impl Waker {
    fn set(&self, waker: Py<PyAny>) {
        let replaced = lock(&self.0).replace(waker);
        drop(replaced);
    }

    fn take(&self) -> Option<Py<PyAny>> {
        lock(&self.0).take()
    }

    /// The loop is gone, and nobody wakes the task any more. Opens a ring: the task's future leads back to it.
    pub fn forget(&self, _py: Python<'_>) {
        drop(self.take());
    }

    pub fn wake(&self, py: Python<'_>) {
        if let Some(waker) = self.take()
            && let Err(error) = idle::wake(py, &waker)
        {
            // Python's stack is used up, and the task has lost its step by that: whoever drives the loop has to know. So does
            // he of a signal handler's exception, in the loop's own code.
            if error.is_instance_of::<PyRecursionError>(py) {
                signals::keep_no_room(error);
            } else {
                signals::keep_unless_exception(py, error);
            }
        }
    }
}

/// What became of an operation at its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It goes on. The waker wakes the task at its end.
    Waits,
    /// Its end has come already, in a meeting. The task goes on in its next turn, so that other tasks have theirs.
    Met,
    /// It is over, and the task goes on at once.
    Over,
}

/// An operation as Python code sees it.
#[derive(IntoPyObject)]
pub enum SeenOperation {
    /// A call in a worker thread: its number, its limiter's key, and the function, until it has begun.
    Work(&'static str, u64, usize, Option<Py<PyAny>>),
    /// A call on another loop: that loop's name and thread, and the task, while it is suspended.
    Call(&'static str, String, u64, Option<Py<PyAny>>),
    /// A token of a limiter, by its key.
    Token(&'static str, usize),
    /// A function that the waiting thread is to run.
    Errand(&'static str, String),
    /// What has ended, or has not begun.
    Nothing(&'static str),
}

pub trait Operation: Send + Sync {
    fn waker(&self) -> &Waker;
    /// Starts it. `inbox` is that of the loop that the task runs on.
    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started>;
    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>>;
    fn cancel(&self, py: Python<'_>);
    /// Whether the end has come, and `end` finds it.
    fn has_ended(&self) -> bool {
        false
    }
    /// What it is, for reports.
    fn seen(&self, py: Python<'_>) -> SeenOperation;
    /// The task was cancelled. Tells the operation to end, and returns for how long the task is to wait for that (by
    /// 3); `None` if not at all. If the time is over before the operation, `end` is called all the same.
    fn tell(&self, py: Python<'_>) -> Option<Duration> {
        let _ = py;
        None
    }
    /// Whether it ended before it could learn of that: the cancellation is still to be raised. Asked before `end`.
    fn was_told_in_vain(&self) -> bool {
        false
    }
}

/// What the function returned or raised that another thread has called for a task.
pub fn result_of(py: Python<'_>, outcome: Option<Outcome>) -> PyResult<Py<PyAny>> {
    match outcome {
        Some(Outcome::Raised(error)) if error.is_instance_of::<PyStopIteration>(py) => {
            let explained = PyRuntimeError::new_err(
                "a function in another thread raised StopIteration, which can't be raised in a coroutine",
            );
            Err(errors::from_cause(py, explained, error))
        }
        Some(outcome) => outcome.arrive(py),
        None => Err(PyRuntimeError::new_err("the task was woken before the function had ended")),
    }
}

enum State {
    New,
    InAsyncio,
    /// The task was cancelled, and waits for the cleanup; for a limited time, if there is a limit.
    CleaningUp(Option<Limit>),
    /// With the iterator of `wait_for` in _trio.py.
    InTrio(Py<PyAny>),
    Over,
}

/// An awaitable. It can be awaited once.
// No `__traverse__`: it is awaited where it is made, and refers to nothing afterwards.
#[pyclass(frozen, module = "syncline._core")]
pub struct Pending {
    operation: Arc<dyn Operation>,
    state: Mutex<State>,
    has_begun: AtomicBool,
    /// What cancelled the task, while it waits for the cleanup (3).
    cancelled_by: Mutex<Option<Py<PyAny>>>,
}

impl Pending {
    pub fn new(operation: Arc<dyn Operation>) -> Self {
        Self {
            operation,
            state: Mutex::new(State::New),
            has_begun: AtomicBool::new(false),
            cancelled_by: Mutex::new(None),
        }
    }

    fn begin(&self, py: Python<'_>, in_trio: bool) -> PyResult<Started> {
        let begun = self.operation.begin(py, here(py, in_trio)?)?;
        self.has_begun.store(begun != Started::Over, Relaxed);
        Ok(begun)
    }

    fn end(&self, py: Python<'_>) -> PyErr {
        self.end_by(py, false)
    }

    /// `is_cancelled_last`: by a cancellation that came after the one of which the operation was told, and after its end.
    fn end_by(&self, py: Python<'_>, is_cancelled_last: bool) -> PyErr {
        self.has_begun.store(false, Relaxed);
        let cancelled_by = take(&self.cancelled_by);
        // As where a task is cancelled whose future is done already: it gets the cancellation, and not the result. Else
        // the cancellation would be lost, and the task would go on.
        let is_in_vain = cancelled_by.is_some() && (is_cancelled_last || self.operation.was_told_in_vain());
        match (self.operation.end(py), cancelled_by) {
            (ended, Some(ours)) if is_in_vain && is_ordinary(py, ended.as_ref()) => {
                whatever_became(py, PyErr::from_value(ours.into_bound(py)), ended.as_ref())
            }
            (Ok(value), _) => PyStopIteration::new_err((value,)),
            // Libraries know their cancellations by the object.
            (Err(error), Some(ours)) if is_cancelled(py, &error) => PyErr::from_value(ours.into_bound(py)),
            (Err(error), _) => error,
        }
    }

    /// The task stops waiting: cancels the operation, if it has begun and not ended (by 2).
    fn cancel(&self, py: Python<'_>) {
        self.operation.waker().forget(py);
        let has_begun = self.has_begun.swap(false, Relaxed);
        if has_begun {
            self.operation.cancel(py);
            // Here nobody can raise it: the task has gone on, or is gone.
            signals::pass_on(py);
        }
    }

    /// A task that awaits can't raise what a signal handler raised meanwhile: it would leave the operation without its
    /// cleanup. It is for whoever drives the loop, who cancels the task if need be.
    fn turn<'py>(slf: &Bound<'py, Self>, input: Input<'_, 'py>) -> PyResult<Py<PyAny>> {
        let turned = Self::go_on(slf, input);
        signals::pass_on(slf.py());
        turned
    }

    fn go_on<'py>(slf: &Bound<'py, Self>, input: Input<'_, 'py>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let _inside = process::step_inside_unless_left(py);
        let state = replace(&this.state, State::Over);
        match (state, input) {
            (State::New, Input::Thrown(error)) => Err(PyErr::from_value(error.clone())),
            (State::New, _) => this.first_turn(slf),
            (State::InAsyncio, Input::Thrown(error)) => this.end_or_clean_up(py, error),
            (State::InAsyncio, _) => Err(this.end(py)),
            // The task may have been cancelled again just when it was woken: then nothing would wake it any more.
            (State::CleaningUp(limit), Input::Thrown(error))
                if is_cancellation(error)
                    && !this.operation.has_ended()
                    && !limit.as_ref().is_some_and(|limit| limit.is_over(py)) =>
            {
                this.wait_in_asyncio(py, State::CleaningUp(limit))
            }
            (State::CleaningUp(limit), input) => {
                if let Some(limit) = limit {
                    signals::unbroken(py, || limit.timer.call_method0(py, intern!(py, "cancel")))?;
                }
                match input {
                    Input::Thrown(error) if !is_cancellation(error) => this.give_up(error),
                    Input::Thrown(error) => Err(this.end_by(py, !is_repeated(error))),
                    Input::Nothing | Input::Sent(_) => Err(this.end(py)),
                }
            }
            (State::InTrio(waiting), input) => this.turn_in_trio(py, waiting, input),
            (State::Over, _) => Err(PyRuntimeError::new_err("this has been awaited already; make the call again")),
        }
    }

    fn first_turn(&self, slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if is_in_trio_task(py)? {
            let waiting = names::trio_wait(py)?.call1((slf,))?.call_method0(intern!(py, "__await__"))?;
            return self.turn_in_trio(py, waiting.unbind(), Input::Nothing);
        }
        let begun = self.begin(py, false);
        // Signals come while this thread meets another one, too. (In trio, the code that comes next is made for that.)
        signals::keep_pending(py);
        match begun? {
            Started::Over => return Err(self.end(py)),
            Started::Met => {
                drop(replace(&self.state, State::InAsyncio));
                return Ok(py.None());
            }
            Started::Waits => {}
        }
        self.wait_in_asyncio(py, State::InAsyncio)
    }

    /// What the task is told to wait for, in that state.
    fn wait_in_asyncio(&self, py: Python<'_>, state: State) -> PyResult<Py<PyAny>> {
        let event_loop = event_loop(py)?;
        let future = signals::unbroken(py, || event_loop.call_method0(intern!(py, "create_future")))?;
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        self.operation.waker().set(future.clone().unbind());
        drop(replace(&self.state, state));
        Ok(future.unbind())
    }

    fn give_up(&self, error: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.cancel(error.py());
        Err(PyErr::from_value(error.clone()))
    }

    /// The task was thrown an error while it waited: it ends by that, or waits for the cleanup (by 3).
    fn end_or_clean_up(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Some(time) = is_cancellation(error).then(|| self.operation.tell(py)).flatten() else {
            return self.give_up(error);
        };
        drop(replace(&self.cancelled_by, Some(error.clone().unbind())));
        let waited_for = self.wait_in_asyncio(py, State::CleaningUp(None))?;
        if time < FOR_EVER {
            let at_end = Bound::new(py, TimeIsOver { operation: Arc::clone(&self.operation), came: false.into() })?;
            let (event_loop, seconds) = (event_loop(py)?, time.as_secs_f64());
            // One that a signal handler has broken off may be there all the same. It only wakes who has gone on.
            let timer =
                signals::unbroken(py, || event_loop.call_method1(intern!(py, "call_later"), (seconds, &at_end)))?;
            let limit = Limit { timer: timer.unbind(), at_end: at_end.unbind() };
            drop(replace(&self.state, State::CleaningUp(Some(limit))));
        }
        Ok(waited_for)
    }

    fn turn_in_trio<'py>(&self, py: Python<'py>, waiting: Py<PyAny>, input: Input<'_, 'py>) -> PyResult<Py<PyAny>> {
        match driven::step(waiting.bind(py), input) {
            Ok(PySendResult::Next(awaited)) => {
                drop(replace(&self.state, State::InTrio(waiting)));
                Ok(awaited.unbind())
            }
            Ok(PySendResult::Return(_)) => Err(self.end(py)),
            Err(error) => {
                self.cancel(py);
                Err(error)
            }
        }
    }
}

fn is_cancellation(error: &Bound<'_, PyAny>) -> bool {
    is_cancelled(error.py(), &PyErr::from_value(error.clone()))
}

fn event_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names::running_loop(py)?.ok_or_else(|| PyRuntimeError::new_err("no event loop runs in this thread"))
}

/// The callback of a loop's timer that ends the wait for an operation's cleanup.
// No `__traverse__`: the timer is cancelled when the wait ends.
#[pyclass(frozen, module = "syncline._core")]
struct TimeIsOver {
    operation: Arc<dyn Operation>,
    came: AtomicBool,
}

#[pymethods]
impl TimeIsOver {
    fn __call__(&self, py: Python<'_>) {
        self.came.store(true, Relaxed);
        self.operation.waker().wake(py);
    }
}

/// The end of the time for cleanup, on a loop of asyncio's kind.
struct Limit {
    timer: Py<PyAny>,
    at_end: Py<TimeIsOver>,
}

impl Limit {
    fn is_over(&self, py: Python<'_>) -> bool {
        self.at_end.bind(py).get().came.load(Relaxed)
    }
}

#[pymethods]
impl Pending {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::turn(slf, Input::Nothing)
    }

    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::turn(slf, Input::Sent(value))
    }

    #[pyo3(signature = (error, _value=None, _traceback=None))]
    fn throw(
        slf: &Bound<'_, Self>,
        error: &Bound<'_, PyAny>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = if error.is_instance_of::<pyo3::types::PyType>() { &error.call0()? } else { error };
        Self::turn(slf, Input::Thrown(error))
    }

    fn close(&self, py: Python<'_>) {
        let state = replace(&self.state, State::Over);
        drop(state);
        self.cancel(py);
    }

    /// What is awaited, for reports.
    #[getter]
    fn _seen(&self, py: Python<'_>) -> SeenOperation {
        self.operation.seen(py)
    }

    /// For _trio.py: starts the operation, and has `waker` told when it is over. True if it is over already.
    fn begin_in_trio(&self, py: Python<'_>, waker: Py<PyAny>) -> PyResult<bool> {
        let waits = self.begin(py, true)? == Started::Waits;
        if waits {
            self.operation.waker().set(waker);
        }
        Ok(!waits)
    }

    /// For _trio.py: the task was cancelled by that error. If it has to wait for the operation's cleanup, `waker` is
    /// told when that is over, and the result is for how many seconds at most.
    fn tell_in_trio(&self, py: Python<'_>, error: Py<PyAny>, waker: Py<PyAny>) -> Option<f64> {
        let time = self.operation.tell(py)?;
        drop(replace(&self.cancelled_by, Some(error)));
        self.operation.waker().set(waker);
        Some(time.as_secs_f64())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.has_begun.load(Relaxed) {
            errors::in_destructor(|py| self.cancel(py));
        }
    }
}
