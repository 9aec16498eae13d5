//! A strand: one task's execution, in greenlets.
//!
//! A task's step runs in a carrier (see there). If the coroutine suspends as usual, the step is over and the carrier
//! serves others. If it suspends in a nested call, below sync code, the greenlet that made that call is parked until the
//! task goes on. Every so many levels a nested call is run by a fresh carrier, started from the loop's own stack: what
//! a switch has to copy stays small, and recursion does not run out of stack.
//!
//! Invariants:
//! 1. A strand is stepped by its own thread, one step at a time. The stack that steps it is the hub; whatever runs for
//!    the strand switches back to that, so hubs nest like calls. Thread-locals that say what runs are set and put back
//!    by hubs only.
//! 2. What hub and carrier tell each other lies in the strand. No lock is held across a switch, nor while an object is
//!    dropped.

use super::carrier::Carrier;
use super::greenlets::{self, Api};
use super::source::{Source, Thrown};
use crate::target::Target;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::Borrowed;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::sync::atomic::AtomicU32;
use std::thread::{self, ThreadId};
use syncline_core::sync::{Mutex, lock};

/// For a carrier.
pub enum Work {
    Send(Arc<Source>, Py<PyAny>),
    Throw(Arc<Source>, Thrown),
}

/// What a parked greenlet goes on with.
pub enum Answer {
    Sent(Py<PyAny>),
    Thrown(Thrown),
    /// The nested call that a fresh carrier ran has ended.
    Ended(PyResult<Py<PyAny>>),
}

/// What the hub is told.
enum Report {
    /// The step is over.
    Stepped(PyResult<Ended>),
    /// A nested call waits, and its greenlet is parked.
    Awaits(Py<PyAny>, Py<PyAny>),
    /// A nested call is to be run by a fresh carrier.
    Descends(Target, Py<PyAny>),
}

enum Ended {
    Awaits(Py<PyAny>),
    Returned(Py<PyAny>),
}

/// One of the coroutines that wait for each other.
struct Level {
    source: Arc<Source>,
    /// In the middle of a step: what goes on when the level above has ended, or the task does.
    parked: Option<Py<PyAny>>,
    /// The carrier whose step that is, or which has to stay.
    carrier: Option<Carrier>,
    /// What it runs in, if that is not the task's.
    context: Option<Py<PyAny>>,
}

impl Level {
    fn new(source: Arc<Source>, context: Option<Py<PyAny>>) -> Self {
        Self { source, parked: None, carrier: None, context }
    }
}

pub struct Strand {
    levels: Mutex<Vec<Level>>,
    hub: Mutex<Option<Py<PyAny>>>,
    answer: Mutex<Option<Answer>>,
    report: Mutex<Option<Report>>,
    /// Nested calls under way.
    pub depth: AtomicU32,
    /// How many `no_switch` blocks it is in.
    pub forbidden: AtomicU32,
    /// Known from the first step on.
    thread: OnceLock<ThreadId>,
}

thread_local! {
    static ACTIVE: RefCell<Option<Arc<Strand>>> = const { RefCell::new(None) };
}

/// The strand that this thread runs a step of.
pub fn active() -> Option<Arc<Strand>> {
    ACTIVE.with_borrow(Clone::clone)
}

/// While it lives, no call is nested in place: the thread waits, and can't turn its loop meanwhile.
pub struct Masked(Option<Arc<Strand>>);

impl Masked {
    pub fn new() -> Self {
        Self(ACTIVE.take())
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        ACTIVE.set(self.0.take());
    }
}

enum Input {
    Send(Py<PyAny>),
    Throw(Thrown),
    Answer(Answer),
}

impl Strand {
    pub fn new(source: &Arc<Source>) -> Arc<Self> {
        Arc::new(Self {
            levels: Mutex::new(vec![Level::new(Arc::clone(source), None)]),
            hub: Mutex::default(),
            answer: Mutex::default(),
            report: Mutex::default(),
            depth: AtomicU32::new(0),
            forbidden: AtomicU32::new(0),
            thread: OnceLock::new(),
        })
    }

    pub fn send<'py>(self: &Arc<Self>, value: &Bound<'py, PyAny>) -> PyResult<PySendResult<'py>> {
        self.step(value.py(), Input::Send(value.clone().unbind()))
    }

    pub fn throw<'py>(self: &Arc<Self>, py: Python<'py>, thrown: Thrown) -> PyResult<PySendResult<'py>> {
        self.step(py, Input::Throw(thrown))
    }

    /// As a coroutine's `close`, with all that is nested in it.
    pub fn close(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if !self.is_of_this_thread() {
            // By 1. Its greenlets end when nobody has them any more, in their own thread.
            return Ok(());
        }
        match self.throw(py, Thrown::of(py, PyGeneratorExit::new_err(()))) {
            Ok(PySendResult::Return(_)) => Ok(()),
            Ok(PySendResult::Next(_)) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Err(error) if error.is_instance_of::<PyGeneratorExit>(py) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nobody has the task any more, which may be pending.
    pub fn abandon(self: &Arc<Self>) {
        if !self.is_nested() || !self.is_of_this_thread() {
            return;
        }
        Python::try_attach(|py| {
            if let Err(error) = self.close(py) {
                error.write_unraisable(py, None);
            }
        });
    }

    /// Whether a nested call is suspended in it.
    pub fn is_nested(&self) -> bool {
        let levels = lock(&self.levels);
        levels.len() > 1 || levels.last().is_some_and(|level| level.parked.is_some())
    }

    pub fn is_of_this_thread(&self) -> bool {
        self.thread.get().is_none_or(|known| *known == thread::current().id())
    }

    // The hub's side.

    fn step<'py>(self: &Arc<Self>, py: Python<'py>, input: Input) -> PyResult<PySendResult<'py>> {
        self.thread.get_or_init(|| thread::current().id());
        let api = greenlets::loaded(py)?;
        let hub = api.current(py)?;
        let outer_hub = lock(&self.hub).replace(hub.clone().unbind());
        let outer = ACTIVE.replace(Some(Arc::clone(self)));
        let result = self.drive(py, api, &hub, input);
        ACTIVE.set(outer);
        let hub = std::mem::replace(&mut *lock(&self.hub), outer_hub);
        drop(hub);
        result
    }

    fn drive<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        api: &Api,
        hub: &Bound<'py, PyAny>,
        input: Input,
    ) -> PyResult<PySendResult<'py>> {
        let mut input = input;
        loop {
            self.enter(py, api, hub, input)?;
            let report = lock(&self.report).take();
            match report {
                Some(Report::Awaits(awaited, greenlet)) => {
                    self.park(greenlet);
                    return Ok(PySendResult::Next(awaited.into_bound(py)));
                }
                Some(Report::Descends(target, greenlet)) => {
                    let context = greenlets::context_of(greenlet.bind(py))?.unbind();
                    self.park(greenlet);
                    let level = Level::new(Arc::new(Source::new(target)), Some(context));
                    lock(&self.levels).push(level);
                    input = Input::Send(py.None());
                }
                Some(Report::Stepped(Ok(Ended::Awaits(awaited)))) => {
                    self.rest(py);
                    return Ok(PySendResult::Next(awaited.into_bound(py)));
                }
                Some(Report::Stepped(ended)) => {
                    self.rest(py);
                    let ended = ended.map(|ended| match ended {
                        Ended::Returned(value) | Ended::Awaits(value) => value,
                    });
                    let (level, is_last) = {
                        let mut levels = lock(&self.levels);
                        (levels.pop(), levels.is_empty())
                    };
                    drop(level);
                    if is_last {
                        return ended.map(|value| PySendResult::Return(value.into_bound(py)));
                    }
                    input = Input::Answer(Answer::Ended(ended));
                }
                None => {
                    return Err(PyRuntimeError::new_err(
                        "somebody switched to the greenlet of an event loop while a task of it ran; only syncline may",
                    ));
                }
            }
        }
    }

    /// Lets the uppermost level go on, until it reports.
    fn enter(self: &Arc<Self>, py: Python<'_>, api: &Api, hub: &Bound<'_, PyAny>, input: Input) -> PyResult<()> {
        let (parked, kept, source, context) = {
            let mut levels = lock(&self.levels);
            let level = levels.last_mut().ok_or_else(|| PyRuntimeError::new_err("cannot reuse a coroutine that has ended"))?;
            match level.parked.take() {
                Some(parked) => (Some(parked), None, None, None),
                None => (
                    None,
                    level.carrier.take(),
                    Some(Arc::clone(&level.source)),
                    level.context.as_ref().map(|context| context.clone_ref(py)),
                ),
            }
        };
        if let Some(parked) = parked {
            let answer = match input {
                Input::Send(value) => Answer::Sent(value),
                Input::Throw(thrown) => Answer::Thrown(thrown),
                Input::Answer(answer) => answer,
            };
            *lock(&self.answer) = Some(answer);
            return api.switch(parked.bind(py));
        }
        let work = match (source, input) {
            (Some(source), Input::Send(value)) => Work::Send(source, value),
            (Some(source), Input::Throw(thrown)) => Work::Throw(source, thrown),
            _ => return Err(PyRuntimeError::new_err("a nested call ended that nobody waits for")),
        };
        let carrier = match kept {
            Some(carrier) => carrier,
            None => Carrier::take(py, api)?,
        };
        let greenlet = carrier.greenlet(py).clone();
        let context = match context {
            Some(context) => context.into_bound(py),
            None => greenlets::context_of(hub)?,
        };
        greenlets::set_context(&greenlet, &context)?;
        drop(context);
        carrier.give(self, work);
        let body = carrier.body(py)?;
        if let Some(level) = lock(&self.levels).last_mut() {
            level.carrier = Some(carrier);
        }
        match body {
            Some(body) => api.start(&greenlet, &body),
            None => api.switch(&greenlet),
        }
    }

    fn park(&self, greenlet: Py<PyAny>) {
        if let Some(level) = lock(&self.levels).last_mut() {
            level.parked = Some(greenlet);
        }
    }

    /// The uppermost level's step is over.
    fn rest(&self, py: Python<'_>) {
        let carrier = lock(&self.levels).last_mut().and_then(|level| level.carrier.take());
        let kept = carrier.and_then(|carrier| carrier.rest(py));
        if let (Some(carrier), Some(level)) = (kept, lock(&self.levels).last_mut()) {
            level.carrier = Some(carrier);
        }
    }

    // The carrier's side.

    /// Without a reference of its own: who rests or is parked must not keep a hub, which may be a carrier (see there, 2).
    pub fn hub<'a, 'py>(&self, py: Python<'py>) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        let hub = lock(&self.hub).as_ref().map(Py::as_ptr);
        let hub = hub.ok_or_else(|| PyRuntimeError::new_err("nobody steps this task"))?;
        // SAFETY: the hub's frame, in `step`, has a reference until it is switched to.
        Ok(unsafe { Borrowed::from_ptr(py, hub) })
    }

    pub fn work(&self, py: Python<'_>, work: Work) {
        let stepped = match work {
            Work::Send(source, value) => source.send(value.bind(py)),
            Work::Throw(source, thrown) => source.throw(py, thrown),
        };
        let stepped = stepped.map(|stepped| match stepped {
            PySendResult::Next(awaited) => Ended::Awaits(awaited.unbind()),
            PySendResult::Return(value) => Ended::Returned(value.unbind()),
        });
        *lock(&self.report) = Some(Report::Stepped(stepped));
    }

    /// A nested call waits: parks this greenlet until the task goes on.
    pub fn suspend(&self, py: Python<'_>, awaited: Bound<'_, PyAny>) -> PyResult<Answer> {
        let awaited = awaited.unbind();
        self.leave(py, |greenlet| Report::Awaits(awaited, greenlet))
    }

    /// Has a fresh carrier run a nested call.
    pub fn descend(&self, py: Python<'_>, target: Target) -> PyResult<Answer> {
        self.leave(py, |greenlet| Report::Descends(target, greenlet))
    }

    fn leave(&self, py: Python<'_>, report: impl FnOnce(Py<PyAny>) -> Report) -> PyResult<Answer> {
        let api = greenlets::loaded(py)?;
        let greenlet = api.current(py)?;
        *lock(&self.report) = Some(report(greenlet.unbind()));
        let hub = self.hub(py)?;
        api.switch(&hub)?;
        let answer = lock(&self.answer).take();
        answer.ok_or_else(|| PyRuntimeError::new_err("somebody switched to a greenlet that waits for a nested call"))
    }
}
