//! Items fetched ahead: a producer on the loop, a consumer in sync code, and room for so many items between them.
//!
//! Only a consumer that finds nothing waits for a hop, and only a producer that found no room is woken by one: when half
//! of the room is free again, or at once if there is not much.
//!
//! Invariants:
//! 1. There are never more items than there is room for, and they come out in order; an error comes after the items
//!    that were there before it. 2. A consumer that waits is woken by the first item, by the end or by an error.
//! 3. The lock is never held while Python code runs.

use super::binding::Binding;
use crate::call::outcome::{Outcome, is_cancelled};
use crate::call::state::{Call, Taker};
use crate::coroutine::driven::{self, Input};
use crate::coroutine::target::{Items, Target, iterator_of};
use crate::python::errors;
use crate::python::once::intern;
use crate::runner::hop::{explained, wait_for};
use crate::runner::state::{Job, Runner};
use crate::task::idle::{self, Cancellation, Idled, Idling};
use crate::task::session::Session;
use crate::task::start::RunIn;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use syncline_core::sync::{Mutex, lock, replace, take};

/// So many items without a pause; then the loop's other tasks have their turn.
const LONGEST_RUN: usize = 256;

/// A producer for so few items is woken for each: whoever asks for a small buffer has items that take their time.
const SMALL: usize = 16;

enum End {
    Exhausted,
    Failed(PyErr),
}

#[derive(Default)]
struct State {
    items: VecDeque<Py<PyAny>>,
    end: Option<End>,
    /// The consumer's wait.
    waiter: Option<Arc<Call>>,
    /// The producer's wait: a future of the loop's.
    room: Option<Py<PyAny>>,
    /// The session's task, once the producer was suspended in it.
    task: Option<Py<PyAny>>,
    stopped: bool,
}

pub struct Buffer {
    most: usize,
    state: Mutex<State>,
    /// The producer's own call.
    producing: OnceLock<Arc<Call>>,
}

impl Buffer {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), producing: OnceLock::new() })
    }

    /// Whether nothing is left, nor will come.
    pub fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.items.is_empty() && (state.end.is_some() || state.stopped)
    }

    /// For the consumer: the next item, `None` at the end.
    pub fn next(
        self: &Arc<Self>,
        py: Python<'_>,
        runner: &Arc<Runner>,
        binding: &Binding,
        supply: Supply,
    ) -> PyResult<Option<Py<PyAny>>> {
        if self.producing.get().is_none() {
            self.start(py, runner, binding, supply)?;
        }
        loop {
            match self.take(py, runner) {
                // What ended the producer may be the end of its loop.
                Some(Err(error)) => {
                    return Err(explained(py, runner, error));
                }
                Some(taken) => return taken,
                None => {}
            }
            if let Err(error) = self.wait(py, runner, binding) {
                if let Some(producing) = self.producing.get().filter(|_| runner.is_closing()) {
                    // It may not have begun, and needn't.
                    producing.abandon(py);
                }
                return Err(error);
            }
        }
    }

    fn start(
        self: &Arc<Self>,
        py: Python<'_>,
        runner: &Arc<Runner>,
        binding: &Binding,
        supply: Supply,
    ) -> PyResult<()> {
        let Some(event_loop) = runner.event_loop(py) else { return Err(errors::closed_meanwhile(py, &runner.name)) };
        let producer = Producer {
            buffer: Arc::clone(self),
            supply,
            session: Arc::clone(&binding.session),
            event_loop: event_loop.clone().unbind(),
            fetching: Mutex::default(),
            resting: Mutex::default(),
        };
        let target = Target::Awaitable(Py::new(py, producer)?.into_any());
        let call = runner.new_call(Taker::Sleeper(Arc::clone(&runner.outbox)), &Arc::default());
        let run_in = RunIn::Session { session: Arc::clone(&binding.session), is_last: false };
        match runner.post(py, Job::Start(Arc::clone(&call), target, run_in)) {
            Ok(()) => {
                let _ = self.producing.set(call);
                Ok(())
            }
            Err(_) => Err(errors::closed_meanwhile(py, &runner.name)),
        }
    }

    /// What there is to take, if anything.
    fn take(self: &Arc<Self>, py: Python<'_>, runner: &Arc<Runner>) -> Option<PyResult<Option<Py<PyAny>>>> {
        let (item, room) = {
            let mut state = lock(&self.state);
            match state.items.pop_front() {
                Some(item) => {
                    let has_room = self.most <= SMALL || state.items.len() <= self.most / 2;
                    (item, if has_room { state.room.take() } else { None })
                }
                None => {
                    return match &mut state.end {
                        None => None,
                        Some(end) => match std::mem::replace(end, End::Exhausted) {
                            End::Exhausted => Some(Ok(None)),
                            End::Failed(error) => Some(Err(error)),
                        },
                    };
                }
            }
        };
        if let Some(room) = room {
            resume(py, runner, room);
        }
        Some(Ok(Some(item)))
    }

    /// Until there is something to take, by 2.
    fn wait(&self, py: Python<'_>, runner: &Arc<Runner>, binding: &Binding) -> PyResult<()> {
        let call = runner.new_call(Taker::Sleeper(Arc::clone(&runner.outbox)), &Arc::default());
        let task = {
            let mut state = lock(&self.state);
            if !state.items.is_empty() || state.end.is_some() {
                return Ok(());
            }
            state.waiter = Some(Arc::clone(&call));
            state.task.as_ref().map(|task| task.clone_ref(py))
        };
        if let Some(task) = task {
            call.suspended_in(task.into_bound(py));
        }
        binding.wait(py, runner, || wait_for(py, runner, &call, binding.shared.patience(None))).map(drop)
    }

    /// Ends the producer and waits for that; what is fetched is given up.
    pub fn stop(&self, py: Python<'_>, runner: &Arc<Runner>, binding: &Binding) -> PyResult<()> {
        self.ask_to_stop(py, runner);
        let Some(call) = self.producing.get() else { return Ok(()) };
        match binding.wait(py, runner, || wait_for(py, runner, call, binding.shared.patience(None))) {
            // Cancelled, as it was asked to be.
            Err(error) if is_cancelled(py, &error) => Ok(()),
            ended => ended.map(drop),
        }
    }

    pub fn ask_to_stop(&self, py: Python<'_>, runner: &Arc<Runner>) {
        let (items, room) = {
            let mut state = lock(&self.state);
            state.stopped = true;
            (std::mem::take(&mut state.items), state.room.take())
        };
        drop(items);
        match (room, self.producing.get()) {
            (Some(room), _) => resume(py, runner, room),
            // It waits for an item, which nobody wants any more.
            (None, Some(call)) => {
                call.begin_cancelling();
                let _ = runner.post(py, Job::Cancel(Arc::clone(call)));
            }
            (None, None) => {}
        }
    }

    /// For the producer. True if there is room for another.
    fn put(&self, py: Python<'_>, item: Py<PyAny>) -> bool {
        let (waiter, has_room) = {
            let mut state = lock(&self.state);
            state.items.push_back(item);
            (state.waiter.take(), state.items.len() < self.most)
        };
        if let Some(waiter) = waiter {
            waiter.settle(py, Outcome::Returned(py.None()));
        }
        has_room
    }

    fn end(&self, py: Python<'_>, end: End) {
        let (waiter, freed) = {
            let mut state = lock(&self.state);
            (state.waiter.take(), (state.end.replace(end), state.task.take()))
        };
        drop(freed);
        if let Some(waiter) = waiter {
            waiter.settle(py, Outcome::Returned(py.None()));
        }
    }
}

/// Wakes the producer. One whose runner takes no more mail is ended by it.
fn resume(py: Python<'_>, runner: &Arc<Runner>, room: Py<PyAny>) {
    let _ = runner.post(py, Job::Do(Box::new(move |py| idle::wake(py, &room))));
}

/// What fetches items ahead, as one step of a session.
pub struct Supply {
    pub items: Arc<Items>,
    pub source: Py<PyAny>,
}

/// The awaitable that fetches items until there are none, or no room.
// No `__traverse__`: a task runs it until it has ended.
#[pyclass(frozen, module = "syncline._core")]
struct Producer {
    buffer: Arc<Buffer>,
    supply: Supply,
    session: Arc<Session>,
    event_loop: Py<PyAny>,
    /// The item under way.
    fetching: Mutex<Option<Py<PyAny>>>,
    /// The wait for room.
    resting: Mutex<Option<Idling>>,
}

enum Fetched<'py> {
    Item(Bound<'py, PyAny>),
    Awaits(Bound<'py, PyAny>),
}

impl Producer {
    /// Goes on; `None` at the end.
    fn run<'py>(&self, py: Python<'py>, input: Input<'_, 'py>) -> PyResult<Option<Py<PyAny>>> {
        let mut input = input;
        let resting = take(&self.resting);
        if let Some(resting) = resting {
            match resting.go_on(py, &mut input) {
                Ok(Idled::Awaits(awaited)) => {
                    drop(replace(&self.resting, Some(resting)));
                    return Ok(Some(awaited));
                }
                Ok(Idled::Over) => {}
                Err(error) => return self.fail(py, error),
            }
        }
        for _ in 0..LONGEST_RUN {
            // A fetch under way comes to its end first: the generator would be left in the middle of it.
            if lock(&self.fetching).is_none() && lock(&self.buffer.state).stopped {
                self.buffer.end(py, End::Exhausted);
                return Ok(None);
            }
            match self.fetch(py, std::mem::replace(&mut input, Input::Nothing)) {
                Ok(Fetched::Awaits(awaited)) => {
                    self.remember_task(py);
                    return Ok(Some(awaited.unbind()));
                }
                Ok(Fetched::Item(item)) => {
                    if !self.buffer.put(py, item.unbind()) {
                        return self.wait_for_room(py).map(Some);
                    }
                }
                Err(error) => return self.fail(py, error),
            }
        }
        // The loop's other tasks have their turn.
        let (pause, awaited) = Idling::begin(self.event_loop.bind(py), Cancellation::Ends)?;
        idle::wake(py, &pause.waker(py))?;
        drop(replace(&self.resting, Some(pause)));
        Ok(Some(awaited))
    }

    fn fetch<'py>(&self, py: Python<'py>, input: Input<'_, 'py>) -> PyResult<Fetched<'py>> {
        let fetching = take(&self.fetching);
        let fetching = match (fetching, input) {
            (None, Input::Thrown(error)) => return Err(PyErr::from_value(error.clone())),
            (Some(fetching), _) => fetching,
            (None, _) => iterator_of(self.supply.items.next(self.supply.source.bind(py))?)?
                .map_err(|made| errors::not_awaitable("__anext__", &made))?,
        };
        match driven::step(fetching.bind(py), input)? {
            PySendResult::Return(item) => Ok(Fetched::Item(item)),
            PySendResult::Next(awaited) => {
                drop(replace(&self.fetching, Some(fetching)));
                Ok(Fetched::Awaits(awaited))
            }
        }
    }

    /// The consumer gets the error. The session learns of cancellations too.
    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<Option<Py<PyAny>>> {
        let cancelled = is_cancelled(py, &error).then(|| error.clone_ref(py));
        let is_end = error.is_instance_of::<PyStopAsyncIteration>(py);
        self.buffer.end(py, if is_end { End::Exhausted } else { End::Failed(error) });
        cancelled.map_or(Ok(None), Err)
    }

    fn wait_for_room(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (resting, awaited) = Idling::begin(self.event_loop.bind(py), Cancellation::Ends)?;
        let waker = resting.waker(py);
        drop(replace(&self.resting, Some(resting)));
        self.remember_task(py);
        let consumer_was_quicker = {
            let mut state = lock(&self.buffer.state);
            if state.items.len() < self.buffer.most || state.stopped {
                true
            } else {
                state.room = Some(waker.clone_ref(py));
                false
            }
        };
        if consumer_was_quicker {
            // It saw nobody to wake.
            idle::wake(py, &waker)?;
        }
        Ok(awaited)
    }

    /// A consumer that stops waiting cancels the task.
    fn remember_task(&self, py: Python<'_>) {
        if lock(&self.buffer.state).task.is_some() {
            return;
        }
        let Some(task) = self.session.known_task(py) else { return };
        let waiter = {
            let mut state = lock(&self.buffer.state);
            state.task = Some(task.clone_ref(py));
            state.waiter.clone()
        };
        if let Some(waiter) = waiter {
            waiter.suspended_in(task.into_bound(py));
        }
    }
}

#[pymethods]
impl Producer {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.run(py, Input::Nothing)
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.run(py, Input::Sent(value))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, _value=None, _traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.run(py, Input::Thrown(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let fetching = take(&self.fetching);
        self.buffer.end(py, End::Exhausted);
        fetching.map_or(Ok(()), |fetching| fetching.call_method0(py, intern!(py, "close")).map(drop))
    }
}
