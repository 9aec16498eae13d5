//! A strand: one task's execution, in greenlets.
//!
//! The steps of a task run in a carrier, a pooled greenlet (`carrier.rs`). If the coroutine suspends as usual, the
//! step is over and the carrier serves other tasks. If it suspends in a nested call, below sync code, the greenlet
//! that made that call is parked until the task goes on. Every 16 levels a nested call is run by a fresh carrier,
//! started from the loop's own stack: what a switch has to copy stays small, and recursion does not run out of stack.
//!
//! Invariants:
//! 1. A strand is stepped by its own thread, one step at a time. The stack that steps it is the hub, and whatever
//!    runs for the strand switches back to the hub. So hubs nest like calls. Only hubs set thread-locals that say
//!    what runs, and set them back: a carrier may be left in the middle of its code.
//! 2. What hub and carrier tell each other lies in the strand, not on a stack, which may be moved away. No lock is
//!    held across a switch, nor while an object is dropped.

use super::carrier::{self, Carrier, Depth, Rider};
use super::greenlets::{self, Api};
use super::kinds::{self, StrandId};
use super::parked::{LayerView, Parked};
use super::stepper::{Owner, Stepper, current_task, identity};
use crate::coroutine::driven::{Driven, Thrown};
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::leaky::Leaky;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::{self, Backend};
use crate::python::threads::thread_key;
use pyo3::Borrowed;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use syncline_core::sync::{Mutex, lock};

/// The step that a carrier is to make: of the given coroutine, or of the strand's own (`source`) if there is none.
enum Resumption {
    Send(Option<Arc<Driven>>, Py<PyAny>),
    Throw(Option<Arc<Driven>>, Thrown),
}

/// What a parked greenlet is resumed with.
pub enum Answer {
    Sent(Py<PyAny>),
    Thrown(Thrown),
    /// The nested call that a fresh carrier ran has ended.
    Ended(PyResult<Py<PyAny>>),
}

/// What the hub is told.
enum Report {
    /// The step is over.
    Stepped(PyResult<SendResult>),
    /// A nested call waits for that object, and is parked.
    Awaits(Py<PyAny>, Parked),
    /// A nested call is to be run by a fresh carrier, and is parked.
    Descends(Target, Parked),
}

/// An owned `PySendResult`: it lies on the heap (by 2).
enum SendResult {
    Awaits(Py<PyAny>),
    Returned(Py<PyAny>),
}

impl SendResult {
    fn into_inner(self) -> Py<PyAny> {
        match self {
            Self::Awaits(value) | Self::Returned(value) => value,
        }
    }
}

/// One of the coroutines in a strand that wait for each other.
#[derive(Default)]
struct Layer {
    /// What it runs. `None` for the base, which runs the strand's own.
    source: Option<Arc<Driven>>,
    /// What was parked in the middle of a step. It goes on when the layer above has ended, or, if there is none, with
    /// the task's next step.
    parked: Option<Parked>,
    /// The carrier that makes that step; between steps, one that can't be put to rest.
    carrier: Option<Carrier>,
    /// The contextvars context that it runs in, if that is not the task's.
    context: Option<Py<PyAny>>,
}

#[derive(Default)]
struct State {
    base: Layer,
    /// Nested calls that fresh carriers run, each one for the layer below it.
    above: Vec<Layer>,
    /// There while a step is made.
    hub: Option<Py<PyAny>>,
    /// From the hub to a carrier that begins a step.
    resumption: Option<Resumption>,
    /// From the hub to a greenlet that was parked.
    answer: Option<Answer>,
    /// From the carrier's side to the hub.
    report: Option<Report>,
}

impl State {
    fn top(&mut self) -> &mut Layer {
        self.above.last_mut().unwrap_or(&mut self.base)
    }
}

pub struct Strand {
    pub source: Driven,
    state: Mutex<State>,
    /// Nested calls under way.
    pub depth: AtomicU32,
    /// How many `no_switch` blocks it is in.
    pub forbidden: AtomicU32,
    owner: Owner,
    /// Set at the first step.
    stepper: OnceLock<Stepper>,
}

thread_local! {
    static ACTIVE: Leaky<Arc<Strand>> = const { Leaky::new() };
}

/// The strand that this thread runs a step of.
pub fn active() -> Option<Arc<Strand>> {
    ACTIVE.with(Leaky::cloned)
}

pub fn is_active() -> bool {
    ACTIVE.with(Leaky::is_some)
}

/// While it lives, no call in this thread awaits in place: the thread waits, and could not resume a strand meanwhile.
pub struct Masked(Option<Arc<Strand>>);

impl Masked {
    pub fn new() -> Self {
        Self(ACTIVE.with(Leaky::take))
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        drop(ACTIVE.with(|active| active.replace(self.0.take())));
    }
}

/// What the hub hands over for the next step.
enum StepInput {
    Send(Py<PyAny>),
    Throw(Thrown),
    Answer(Answer),
}

impl Strand {
    pub fn new(source: Driven, owner: Owner) -> Arc<Self> {
        Arc::new(Self {
            source,
            state: Mutex::default(),
            depth: AtomicU32::new(0),
            forbidden: AtomicU32::new(0),
            owner,
            stepper: OnceLock::new(),
        })
    }

    pub fn send<'py>(self: &Arc<Self>, value: &Bound<'py, PyAny>) -> PyResult<PySendResult<'py>> {
        self.step(value.py(), StepInput::Send(value.clone().unbind()))
    }

    pub fn throw<'py>(self: &Arc<Self>, py: Python<'py>, thrown: Thrown) -> PyResult<PySendResult<'py>> {
        self.step(py, StepInput::Throw(thrown))
    }

    /// As a coroutine's `close`; what is nested in it is closed, too.
    pub fn close(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if !self.is_of_this_thread() {
            // By 1. greenlet ends the greenlets in their own thread, once nobody refers to them any more.
            return Ok(());
        }
        match self.throw(py, Thrown::of(py, PyGeneratorExit::new_err(()))) {
            Ok(PySendResult::Return(_)) => Ok(()),
            Ok(PySendResult::Next(_)) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Err(error) if error.is_instance_of::<PyGeneratorExit>(py) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// For the drop of the strand's coroutine: the task is gone, maybe in the middle of a nested call. Closes that.
    pub fn abandon(self: &Arc<Self>) {
        if !self.is_nested() || !self.is_of_this_thread() {
            return;
        }
        errors::in_destructor(|py| {
            if let Err(error) = self.close(py) {
                error.write_unraisable(py, None);
            }
        });
    }

    pub fn id(&self) -> StrandId {
        StrandId(std::ptr::from_ref(self).addr())
    }

    /// Whether nested calls are allowed at the moment.
    pub fn can_nest(&self) -> bool {
        self.forbidden.load(Relaxed) == 0
    }

    /// Whether the code that runs now is the strand's task's. Not so in a forked child, which leaves the parent's
    /// tasks alone; nor where another task, without a strand, began eagerly in the middle of a step of this one.
    #[inline]
    pub fn can_be_awaited_in(&self, py: Python<'_>) -> bool {
        let Some(stepper) = self.stepper.get().filter(|stepper| stepper.epoch == process::epoch()) else {
            return false;
        };
        match stepper.task.get() {
            Some(None) => true,
            Some(Some(task)) => current_task(py).is_some_and(|current| identity(&current) == *task),
            None => {
                let current = current_task(py).filter(|current| self.is_of(current));
                current.is_some_and(|current| stepper.task.set(Some(identity(&current))).is_ok())
            }
        }
    }

    /// Which library runs the strand's task. To be called by code of that task.
    pub fn backend(&self, py: Python<'_>) -> Backend {
        let has_asyncio_task = self.stepper.get().is_some_and(|stepper| matches!(stepper.task.get(), Some(Some(_))));
        if !has_asyncio_task && signals::ask(py, || surroundings::is_in_trio_task(py)) {
            Backend::Trio
        } else {
            Backend::Asyncio
        }
    }

    /// Whether the coroutine of `task` is the one that runs in this strand.
    fn is_of(&self, task: &Bound<'_, PyAny>) -> bool {
        let Ok(coroutine) = task.call_method0(intern!(task.py(), "get_coro")) else { return false };
        kinds::of(&coroutine).is_some_and(|kind| (kind.runs_in)(&coroutine, self.id()))
    }

    /// Whether a nested call is suspended in it.
    pub fn is_nested(&self) -> bool {
        let state = lock(&self.state);
        !state.above.is_empty() || state.base.parked.is_some()
    }

    /// Its layers, outermost first.
    pub fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        let state = lock(&self.state);
        let shown = |layer: &Layer| {
            let driven = layer.source.as_deref().unwrap_or(&self.source);
            let (greenlet, nested) = layer.parked.as_ref().map(|parked| parked.shown(py)).unzip();
            (driven.inner(py).map(|inner| inner.clone().unbind()), greenlet, nested.flatten())
        };
        std::iter::once(&state.base).chain(&state.above).map(shown).collect()
    }

    fn is_of_this_thread(&self) -> bool {
        self.stepper.get().is_none_or(|stepper| stepper.thread == thread_key())
    }

    // The hub's side.

    fn step<'py>(self: &Arc<Self>, py: Python<'py>, input: StepInput) -> PyResult<PySendResult<'py>> {
        self.stepper.get_or_init(|| Stepper::here(py, self.owner));
        let api = greenlets::loaded(py)?;
        let hub = api.current(py)?;
        let outer = ACTIVE.with(|active| active.replace(Some(Arc::clone(self))));
        let result = self.drive(py, api, &hub, input);
        drop(ACTIVE.with(|active| active.replace(outer)));
        result
    }

    fn drive<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        api: &Api,
        hub: &Bound<'py, PyAny>,
        input: StepInput,
    ) -> PyResult<PySendResult<'py>> {
        let mut input = input;
        loop {
            let carrier = self.enter(py, api, hub, input)?;
            match self.hear(py, api, carrier) {
                Some(Report::Awaits(awaited, parked)) => {
                    lock(&self.state).top().parked = Some(parked);
                    return Ok(PySendResult::Next(awaited.into_bound(py)));
                }
                Some(Report::Descends(target, parked)) => {
                    let context = api.context_of(parked.greenlet.bind(py))?.unbind();
                    let source = Some(Arc::new(Driven::new(target)));
                    let level = Layer { source, context: Some(context), ..Layer::default() };
                    let mut state = lock(&self.state);
                    state.top().parked = Some(parked);
                    state.above.push(level);
                    input = StepInput::Send(py.None());
                }
                Some(Report::Stepped(Ok(SendResult::Awaits(awaited)))) => {
                    return Ok(PySendResult::Next(awaited.into_bound(py)));
                }
                Some(Report::Stepped(ended)) => {
                    let ended = ended.map(SendResult::into_inner);
                    let level = lock(&self.state).above.pop();
                    if level.is_none() {
                        return ended.map(|value| PySendResult::Return(value.into_bound(py)));
                    }
                    input = StepInput::Answer(Answer::Ended(ended));
                }
                None => {
                    return Err(PyRuntimeError::new_err(
                        "somebody switched to the greenlet of an event loop while a task of it ran; only syncline may",
                    ));
                }
            }
        }
    }

    /// Lets the uppermost layer go on, until something switches back here. Returns the carrier, if one began a step.
    fn enter(
        self: &Arc<Self>,
        py: Python<'_>,
        api: &Api,
        hub: &Bound<'_, PyAny>,
        input: StepInput,
    ) -> PyResult<Option<Carrier>> {
        let (kept, source, context) = {
            let mut state = lock(&self.state);
            if state.hub.is_some() {
                return Err(PyValueError::new_err("coroutine already executing"));
            }
            state.hub = Some(hub.clone().unbind());
            match state.top().parked.take() {
                Some(parked) => {
                    state.answer = Some(match input {
                        StepInput::Send(value) => Answer::Sent(value),
                        StepInput::Throw(thrown) => Answer::Thrown(thrown),
                        StepInput::Answer(answer) => answer,
                    });
                    drop(state);
                    return self.failing(api.switch(parked.greenlet.bind(py))).map(|()| None);
                }
                None => {
                    let level = state.top();
                    let context = level.context.as_ref().map(|context| context.clone_ref(py));
                    (level.carrier.take(), level.source.clone(), context)
                }
            }
        };
        let started = self.start(py, api, hub, kept, source, context, input);
        self.failing(started).map(Some)
    }

    #[expect(clippy::too_many_arguments, reason = "what `enter` has found while it held the lock")]
    fn start(
        self: &Arc<Self>,
        py: Python<'_>,
        api: &Api,
        hub: &Bound<'_, PyAny>,
        kept: Option<Carrier>,
        source: Option<Arc<Driven>>,
        context: Option<Py<PyAny>>,
        input: StepInput,
    ) -> PyResult<Carrier> {
        let resumption = match input {
            StepInput::Send(value) => Resumption::Send(source, value),
            StepInput::Throw(thrown) => Resumption::Throw(source, thrown),
            StepInput::Answer(_) => return Err(PyRuntimeError::new_err("a nested call ended that nobody waits for")),
        };
        let depth = Depth::here();
        let carrier = Carrier::take(py, api, kept, depth)?;
        match context {
            Some(context) => api.set_context(carrier.greenlet(py), context.bind(py))?,
            None => api.set_context(carrier.greenlet(py), &api.context_of(hub)?)?,
        }
        drop(lock(&self.state).resumption.replace(resumption));
        carrier::hand_over(Arc::<Self>::clone(self));
        let switched = carrier.switch(py, api, depth);
        if switched.is_err() {
            carrier::take_back();
            let taken_back = lock(&self.state).resumption.take();
            drop(taken_back);
        }
        switched.map(|()| carrier)
    }

    /// Forgets the hub if the step has failed before it began.
    fn failing<T>(&self, result: PyResult<T>) -> PyResult<T> {
        if result.is_err() {
            let hub = lock(&self.state).hub.take();
            drop(hub);
        }
        result
    }

    /// Takes the report, after a switch has come back to the hub. If the step is over, the carrier is put to rest.
    /// `None`: no code of ours has switched here.
    fn hear(&self, py: Python<'_>, api: &Api, carrier: Option<Carrier>) -> Option<Report> {
        let (report, carrier, hub) = {
            let mut state = lock(&self.state);
            let report = state.report.take();
            let kept = &mut state.top().carrier;
            let mut carrier = carrier.or_else(|| kept.take());
            if !matches!(report, Some(Report::Stepped(_))) {
                *kept = carrier.take();
            }
            (report, carrier, state.hub.take())
        };
        drop(hub);
        let kept = carrier.and_then(|carrier| carrier.rest(py, api));
        if kept.is_some() {
            lock(&self.state).top().carrier = kept;
        }
        report
    }

    // The carrier's side.

    /// Leaves the report, and returns the hub, to be switched to. Without a reference: a carrier at rest and a parked
    /// greenlet would keep it, and keep the hub from being put to rest if it is a carrier itself.
    fn report<'py>(&self, py: Python<'py>, report: Report) -> PyResult<Borrowed<'static, 'py, PyAny>> {
        let hub = {
            let mut state = lock(&self.state);
            state.report = Some(report);
            state.hub.as_ref().map(Py::as_ptr)
        };
        let hub = hub.ok_or_else(|| PyRuntimeError::new_err("nobody steps this task"))?;
        // SAFETY: the hub's frame in `step` holds a reference until it is switched to. After that greenlet does not
        // look at the object (only builds of greenlet with assertions do).
        Ok(unsafe { Borrowed::from_ptr(py, hub) })
    }

    /// A nested call that awaits `inner` waits: parks this greenlet until the task goes on.
    pub fn suspend(&self, inner: &Bound<'_, PyAny>, awaited: Bound<'_, PyAny>) -> PyResult<Answer> {
        let py = inner.py();
        let api = greenlets::loaded(py)?;
        let parked = Parked { greenlet: api.current(py)?.unbind(), inner: Some(inner.clone().unbind()) };
        self.park(py, api, Report::Awaits(awaited.unbind(), parked))
    }

    /// Has a nested call run by a fresh carrier, and parks this greenlet until that has ended.
    pub fn descend(&self, py: Python<'_>, target: Target) -> PyResult<Answer> {
        let api = greenlets::loaded(py)?;
        let parked = Parked { greenlet: api.current(py)?.unbind(), inner: None };
        self.park(py, api, Report::Descends(target, parked))
    }

    fn park(&self, py: Python<'_>, api: &Api, report: Report) -> PyResult<Answer> {
        let hub = self.report(py, report)?;
        api.switch(&hub)?;
        let answer = lock(&self.state).answer.take();
        answer.ok_or_else(|| PyRuntimeError::new_err("somebody switched to a greenlet that waits for a nested call"))
    }
}

impl Rider for Strand {
    fn ride<'py>(&self, py: Python<'py>) -> PyResult<Borrowed<'static, 'py, PyAny>> {
        let resumption = lock(&self.state).resumption.take();
        let stepped = match resumption {
            Some(Resumption::Send(driven, value)) => driven.as_deref().unwrap_or(&self.source).send(value.bind(py)),
            Some(Resumption::Throw(driven, thrown)) => driven.as_deref().unwrap_or(&self.source).throw(py, thrown),
            None => Err(PyRuntimeError::new_err("a greenlet was switched to for a step that nobody makes")),
        };
        let stepped = stepped.map(|stepped| match stepped {
            PySendResult::Next(awaited) => SendResult::Awaits(awaited.unbind()),
            PySendResult::Return(value) => SendResult::Returned(value.unbind()),
        });
        self.report(py, Report::Stepped(stepped))
    }
}
