//! Items fetched ahead (`prefetch`): a producer on the loop, a consumer in sync code, and between them a buffer with
//! room for so many items.
//!
//! Usually the consumer takes an item without waiting for the loop, and the producer puts one in without waking the
//! consumer. A consumer that finds nothing waits. A producer that finds no room waits until half of the room is free
//! again, or, in a small buffer, until there is room for one item.
//!
//! Invariants:
//! 1. There are never more items than there is room for. They come out in order, an error after the items before it.
//! 2. A consumer that waits is woken by the first item, by the end, or by an error.
//! 3. The lock is never held while Python code runs.

use super::binding::Binding;
use crate::call::outcome::{Outcome, cancelled_here, is_cancelled};
use crate::call::state::Call;
use crate::call::taker::Taker;
use crate::coroutine::driven::{self, Input};
use crate::coroutine::target::{Items, Target, iterator_of};
use crate::python::errors;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::runner::hop::{explained, explained_to_thread, wait_for, wait_for_end};
use crate::runner::moving;
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

/// So many items are fetched at most before the loop's other tasks have their turn.
const LONGEST_RUN: usize = 256;

/// In a buffer for so few items the producer is woken whenever there is room: who asks for a small buffer has items
/// that take long to fetch, so that a wake-up for each is cheap in comparison.
const SMALL: usize = 16;

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Item,
    End,
}

enum End {
    Exhausted,
    Failed(PyErr),
}

#[derive(Default)]
struct State {
    items: VecDeque<Py<PyAny>>,
    end: Option<End>,
    /// The call that the consumer waits for, if it waits.
    waiter: Option<Arc<Call>>,
    /// What wakes the producer, if it waits for room.
    room: Option<Py<PyAny>>,
    /// The session's task, known from the producer's first suspension on.
    task: Option<Py<PyAny>>,
    stopped: bool,
    /// The consumer has told the producer to end, as a signal handler has raised, and has not waited for that.
    given_up: bool,
}

pub struct Buffer {
    most: usize,
    state: Mutex<State>,
    /// The call whose coroutine is the producer.
    producing: OnceLock<Arc<Call>>,
}

impl Buffer {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), producing: OnceLock::new() })
    }

    pub fn has_producer(&self) -> bool {
        self.producing.get().is_some()
    }

    /// Whether nothing is left, nor will come.
    pub fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.items.is_empty() && (state.end.is_some() || state.stopped)
    }

    /// Starts the producer, the first time.
    pub fn begin(
        self: &Arc<Self>,
        py: Python<'_>,
        runner: &Arc<Runner>,
        binding: &Binding,
        supply: impl FnOnce() -> PyResult<Supply>,
    ) -> PyResult<()> {
        if self.producing.get().is_none() { self.start(py, runner, binding, supply()?) } else { Ok(()) }
    }

    /// For the consumer: the next item, `None` at the end.
    pub fn next(self: &Arc<Self>, py: Python<'_>, binding: &Binding) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let Some(runner) = binding.runner() else { return Err(errors::shutting_down()) };
            match self.take(py, runner) {
                // The producer may have been cancelled by the end of its loop.
                Some(Err(error)) => {
                    return Err(process::refused(py, || explained_to_thread(py, runner, error)));
                }
                Some(taken) => return taken,
                None => {}
            }
            if let Err(error) = self.wait(py, runner, binding) {
                let is_of_signal = signals::are_handlers(py, &error);
                if let Some(producing) = self.producing.get().filter(|_| runner.is_closing()) {
                    // The producer may not have begun, and now need not.
                    producing.abandon(py);
                }
                let mut state = lock(&self.state);
                state.given_up |= is_of_signal && state.waiter.is_some();
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
        let closed = || process::refused(py, || errors::closed_meanwhile(py, &runner.name));
        runner.event_loop(py).ok_or_else(closed)?;
        let producer = Producer {
            buffer: Arc::clone(self),
            supply,
            session: Arc::clone(&binding.session),
            runner: Arc::clone(runner),
            fetching: Mutex::default(),
            resting: Mutex::default(),
        };
        let target = Target::Awaitable(Py::new(py, producer)?.into_any());
        let call = runner.new_call(Taker::sleeper(&runner.outbox), &Arc::default());
        let run_in = RunIn::Session { session: Arc::clone(&binding.session), is_last: false };
        call.refuse_errands(py);
        binding.shared.note_origin(py, &call)?;
        match runner.post(py, Job::Start(Arc::clone(&call), target, run_in)) {
            Ok(()) => {
                let _ = self.producing.set(call);
                runner.move_calls(py).map(drop)
            }
            Err(_) => Err(closed()),
        }
    }

    /// Takes an item, the error, or the end (`Ok(None)`). `None` if nothing is there yet.
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

    /// Waits until there is something to take (by 2).
    fn wait(&self, py: Python<'_>, runner: &Arc<Runner>, binding: &Binding) -> PyResult<()> {
        let call = runner.new_call(Taker::sleeper(&runner.outbox), &Arc::default());
        self.follow(py, binding, &call)?;
        if !self.tell(py, &call, Expected::Item) {
            return Ok(());
        }
        binding.wait(py, runner, &call, || wait_for(py, runner, &call, binding.shared.patience(None))).map(drop)
    }

    /// What waits for the producer goes where that goes, if it does before its first step.
    pub fn follow(&self, py: Python<'_>, binding: &Binding, call: &Arc<Call>) -> PyResult<()> {
        binding.shared.note_origin(py, call)?;
        self.producing.get().into_iter().for_each(|producing| moving::follow(producing, call));
        Ok(())
    }

    /// Has the call settled by the next item or the end. False if that is there; of items, if it waits for one.
    pub fn tell(&self, py: Python<'_>, call: &Arc<Call>, expected: Expected) -> bool {
        let task = {
            let mut state = lock(&self.state);
            if state.end.is_some() || (expected == Expected::Item && !state.items.is_empty()) {
                return false;
            }
            state.waiter = Some(Arc::clone(call));
            state.task.as_ref().map(|task| task.clone_ref(py))
        };
        if let Some(task) = task {
            call.suspended_in(task.into_bound(py));
        }
        true
    }

    /// As `take` for async code on another loop, where the end is an error, too.
    pub fn take_there(self: &Arc<Self>, py: Python<'_>, binding: &Binding) -> Option<PyResult<Py<PyAny>>> {
        let runner = binding.runner()?;
        match self.take(py, runner)? {
            Ok(Some(item)) => Some(Ok(item)),
            Ok(None) => Some(Err(PyStopAsyncIteration::new_err(()))),
            // Whoever waits gets a cancellation as its own library has it.
            Err(error) if is_cancelled(py, &error) && !runner.is_closing() => Some(Err(cancelled_here(py))),
            Err(error) => Some(Err(explained(py, runner, error))),
        }
    }

    /// Ends the producer and waits for its end. Items that are there are dropped.
    pub fn stop(&self, py: Python<'_>, runner: &Arc<Runner>, binding: &Binding) -> PyResult<()> {
        self.ask_to_stop(py, runner);
        let Some(call) = self.producing.get().filter(|_| !lock(&self.state).given_up) else { return Ok(()) };
        match binding.wait(py, runner, call, || wait_for_end(py, runner, call, binding.shared.patience(None))) {
            // Cancelled, as it was asked to be.
            Err(error) if is_cancelled(py, &error) => Ok(()),
            ended => ended.map(drop),
        }
    }

    pub fn ask_to_stop(&self, py: Python<'_>, runner: &Arc<Runner>) {
        let (items, room, given_up) = {
            let mut state = lock(&self.state);
            state.stopped = true;
            (std::mem::take(&mut state.items), state.room.take(), state.given_up)
        };
        drop(items);
        match (room, self.producing.get()) {
            (Some(room), _) => resume(py, runner, room),
            // The producer is fetching an item that nobody wants any more: its fetch is cancelled.
            (None, Some(call)) if !given_up => runner.ask_to_cancel(py, call),
            (None, _) => {}
        }
    }

    /// For the producer: puts an item in. True if there is room for another one.
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

/// Wakes the producer, on its loop. If the runner takes no more mail, it is ending, and ends the producer.
fn resume(py: Python<'_>, runner: &Arc<Runner>, room: Py<PyAny>) {
    let _ = runner.post(py, Job::Do(Box::new(move |py| idle::wake(py, &room))));
}

/// Where the producer gets items from.
pub struct Supply {
    pub items: Arc<Items>,
    pub source: Py<PyAny>,
}

/// The producer, an awaitable: one long step of the session, which fetches items until there are no more.
// No `__traverse__`: a task keeps it until it has ended.
#[pyclass(frozen, module = "syncline._core")]
struct Producer {
    buffer: Arc<Buffer>,
    supply: Supply,
    session: Arc<Session>,
    /// The first one that it was sent to.
    runner: Arc<Runner>,
    /// The fetch that is under way: what `__anext__` returned, as an iterator.
    fetching: Mutex<Option<Py<PyAny>>>,
    /// The wait for room, or for the loop's other tasks.
    resting: Mutex<Option<Idling>>,
}

enum Fetched<'py> {
    Item(Bound<'py, PyAny>),
    Awaits(Bound<'py, PyAny>),
}

impl Producer {
    fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        moving::home_of(&self.session, &self.runner).event_loop(py).ok_or_else(errors::shutting_down)
    }

    /// The task's turn. Returns what the task waits for next, or `None` at the end.
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
            // Not while a fetch is under way: the generator would be left in the middle of a step, and could not be
            // closed.
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
        // A pause of one turn, for the loop's other tasks.
        let (pause, awaited) = Idling::begin_unless(self.event_loop(py)?, Cancellation::Ends, |_| true)?;
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

    /// Ends the producer by an error, which the consumer gets. A cancellation is raised here as well, for the session.
    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<Option<Py<PyAny>>> {
        let cancelled = is_cancelled(py, &error).then(|| error.clone_ref(py));
        let is_end = error.is_instance_of::<PyStopAsyncIteration>(py);
        self.buffer.end(py, if is_end { End::Exhausted } else { End::Failed(error) });
        cancelled.map_or(Ok(None), Err)
    }

    fn wait_for_room(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (resting, awaited) = Idling::begin_unless(self.event_loop(py)?, Cancellation::Ends, |waker| {
            let mut state = lock(&self.buffer.state);
            // The consumer was quicker: it has taken an item after this one found no room, and saw nobody to wake.
            let is_over = state.items.len() < self.buffer.most || state.stopped;
            if !is_over {
                state.room = Some(waker.clone_ref(py));
            }
            is_over
        })?;
        drop(replace(&self.resting, Some(resting)));
        self.remember_task(py);
        Ok(awaited)
    }

    /// Tells a consumer that waits which task it waits for, so that it can cancel that when it stops waiting.
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

impl Drop for Producer {
    fn drop(&mut self) {
        if lock(&self.buffer.state).end.is_none() {
            // Its loop has refused it, or has left it behind.
            errors::in_destructor(|py| {
                let (runner, name) = (&self.runner, &self.runner.name);
                let is_gone = runner.is_closing();
                let unheard = || errors::unheard(py, name, runner.event_loop(py));
                let error = if is_gone { errors::closed_meanwhile(py, name) } else { unheard() };
                self.buffer.end(py, End::Failed(error));
            });
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
