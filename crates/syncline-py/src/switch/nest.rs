//! Nested calls in place: sync code that a task called makes a call, which awaits in that very task.
//!
//! Invariants:
//! 1. The call runs in the caller's task and in its context, so the caller sees what it changes there. With
//!    context="copy" it runs in a copy; the steps of one object (an iterator, a manager) share one copy.
//! 2. A greenlet that nobody can resume any more ends by `GreenletExit`, and closes the coroutine that it drives.

use super::greenlets;
use super::strand::{self, Answer, Strand};
use crate::coroutine::driven::{self, Thrown};
use crate::coroutine::target::{self, Target};
use crate::python::context::{self, Entered};
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::surroundings::{Anchor, Backend};
use pyo3::exceptions::{PyRecursionError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use syncline_core::stats::Stats;

/// So many levels of nested calls share a stack. With more a switch copies more; with fewer more carriers are started.
const LEVELS_A_STACK: u32 = 16;
const MOST_LEVELS: u32 = 10_000;

/// What a nested call has to know of its bridge: mostly the bridge's options.
pub struct Terms {
    pub bridge: u64,
    /// The library that its coroutines are written for.
    pub backend: Backend,
    /// Whether nested calls await in place where they can.
    pub switches: bool,
    /// The loop of somebody else's that its calls run on.
    pub onto: Option<Arc<Anchor>>,
    /// Whether it has no loop that its calls have to run on: in a task of another loop that can await them, they run
    /// in that task. So it is with the default bridge.
    pub roams: bool,
    /// Whether the caller sees what a call changes in contextvars (by 1).
    pub shares_context: bool,
    pub stats: Arc<Stats>,
}

impl Terms {
    /// The same for calls that stay on the bridge's loops.
    pub fn staying_home(&self) -> Self {
        Self { onto: self.onto.clone(), roams: false, stats: Arc::clone(&self.stats), ..*self }
    }

    /// Whether the loop of somebody else's that its calls run on is the one that runs here.
    pub fn is_onto_this(&self, py: Python<'_>) -> bool {
        self.onto.as_ref().is_some_and(|onto| onto.runs_here(py))
    }
}

/// Whose loop this thread drives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Driving {
    /// No bridge's. Tasks that were made nestable there take the nested calls of all bridges.
    Foreign,
    /// A bridge's, by its id, and whether its tasks run in strands.
    Ours { bridge: u64, switches: bool },
}

thread_local! {
    static DRIVING: Cell<Driving> = const { Cell::new(Driving::Foreign) };
    static STRANDING: Cell<bool> = const { Cell::new(false) };
}

/// Says whose loop this thread drives from now on; returns whose it was.
pub fn drive(driving: Driving) -> Driving {
    DRIVING.replace(driving)
}

pub fn driving() -> Driving {
    DRIVING.get()
}

/// While it lives, the calls that begin in this thread run in strands, if `switches`, though the loop is no bridge's.
pub struct Stranding(bool);

impl Stranding {
    pub fn begin(switches: bool) -> Self {
        Self(STRANDING.replace(switches))
    }
}

impl Drop for Stranding {
    fn drop(&mut self) {
        STRANDING.set(self.0);
    }
}

/// Whether this thread drives a loop of a bridge whose tasks run in strands.
pub fn drives_strands() -> bool {
    matches!(DRIVING.get(), Driving::Ours { switches: true, .. })
}

/// Whether tasks that are made in this thread are to run in strands.
pub fn strands_here() -> bool {
    drives_strands() || STRANDING.get()
}

/// The strand in which a call of this bridge can await, if the present code runs in one.
pub fn strand_for(py: Python<'_>, terms: &Terms) -> Option<Arc<Strand>> {
    if !terms.switches {
        return None;
    }
    match DRIVING.get() {
        Driving::Ours { bridge, .. } if bridge != terms.bridge => None,
        Driving::Ours { .. } => strand::active().filter(|strand| strand.can_be_awaited_in(py)),
        // Unless its coroutines are written for another library.
        Driving::Foreign if terms.roams || terms.is_onto_this(py) => {
            strand::active().filter(|strand| strand.can_be_awaited_in(py) && strand.backend(py) == terms.backend)
        }
        Driving::Foreign => None,
    }
}

/// The strand whose task is parked while a call of this bridge runs elsewhere, if the present code runs in one: so that
/// the call does not block the task's loop. Inside of `no_switch` there is none, and the call blocks the loop.
pub fn strand_to_park(py: Python<'_>, terms: &Terms) -> Option<Arc<Strand>> {
    if matches!(DRIVING.get(), Driving::Ours { bridge, .. } if bridge == terms.bridge) {
        return None;
    }
    strand::active().filter(|strand| strand.can_nest() && strand.can_be_awaited_in(py))
}

/// While it lives, the strand has one more nested call under way.
struct Nesting<'a>(&'a Strand);

impl<'a> Nesting<'a> {
    fn enter(strand: &'a Strand) -> PyResult<(Self, u32)> {
        if !strand.can_nest() {
            return Err(PyRuntimeError::new_err(
                "a nested call inside `with syncline.no_switch():`, which forbids it: other tasks would run while this \
                 code holds what the block protects; make the call outside of the block",
            ));
        }
        let depth = strand.depth.fetch_add(1, Relaxed);
        let level = Self(strand);
        if depth >= MOST_LEVELS {
            return Err(PyRecursionError::new_err(format!(
                "{MOST_LEVELS} nested calls in one task: sync code and async code call each other without an end; await \
                 the async function instead of calling the bridge where you can"
            )));
        }
        Ok((level, depth))
    }
}

impl Drop for Nesting<'_> {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Relaxed);
    }
}

/// Calls the async function and awaits its result in place.
pub fn run_function(
    terms: &Terms,
    strand: &Strand,
    caller: &'static str,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    counted(terms, function.py(), None, || {
        let (_level, depth) = Nesting::enter(strand)?;
        if depth % LEVELS_A_STACK == LEVELS_A_STACK - 1 {
            let target = Target::Function {
                caller,
                function: function.clone().unbind(),
                args: args.clone().unbind(),
                kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
            };
            return descend(function.py(), strand, target);
        }
        let inner = target::call(caller, function, args, kwargs)?;
        to_the_end(strand, inner.bind(function.py()), |_| ())
    })
}

/// Calls a sync function, in a thread that drives a loop of that bridge: there is nothing to wait for.
pub fn call_plain(
    terms: &Terms,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    counted(terms, function.py(), None, || target::call_plain(function, args, kwargs))
}

/// Awaits the target in place, and raises TimeoutError if that takes too long.
pub fn run(
    py: Python<'_>,
    terms: &Terms,
    strand: &Strand,
    target: Target,
    timeout: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    counted(terms, py, None, || in_place(py, strand, target, timeout, |_| ()))
}

/// The same; `parks` is told each time the call suspends (true) and goes on (false).
pub fn run_watched(
    py: Python<'_>,
    terms: &Terms,
    strand: &Strand,
    target: Target,
    timeout: Option<Duration>,
    parks: impl Fn(bool),
) -> PyResult<Py<PyAny>> {
    counted(terms, py, None, || in_place(py, strand, target, timeout, parks))
}

/// The same for a step of an object that has a context of its own. It is used where the caller's is not shared (by 1).
pub fn run_in(
    py: Python<'_>,
    terms: &Terms,
    strand: &Strand,
    target: Target,
    context: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    counted(terms, py, Some(context), || in_place(py, strand, target, None, |_| ()))
}

fn in_place(
    py: Python<'_>,
    strand: &Strand,
    target: Target,
    timeout: Option<Duration>,
    parks: impl Fn(bool),
) -> PyResult<Py<PyAny>> {
    let (target, (_level, depth)) = target.with(py, Nesting::enter(strand))?;
    let target = match timeout {
        None => target,
        Some(timeout) => within(py, target, timeout)?,
    };
    if depth % LEVELS_A_STACK == LEVELS_A_STACK - 1 {
        return descend(py, strand, target);
    }
    to_the_end(strand, target.begin(py)?.bind(py), parks)
}

/// Awaits the target in place, for a caller who has no bridge, or whose bridge runs it on another loop: the task is
/// parked meanwhile, and its own loop goes on.
pub fn run_without_bridge(
    py: Python<'_>,
    strand: &Strand,
    target: Target,
    timeout: Option<Duration>,
) -> PyResult<Py<PyAny>> {
    let result = in_place(py, strand, target, timeout, |_| ());
    signals::raise_kept()?;
    result
}

/// Counts the call, makes it in the context that 1 asks for, and raises what signal handlers raised meanwhile.
fn counted(
    terms: &Terms,
    py: Python<'_>,
    context: Option<&Bound<'_, PyAny>>,
    call: impl FnOnce() -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    terms.stats.calls.add(1);
    terms.stats.nested.add(1);
    let result = if terms.shares_context {
        call()
    } else {
        let own = match context {
            Some(context) => context.clone(),
            None => context::copy(py)?.into_bound(py),
        };
        let entered = Entered::new(&own)?;
        let result = call();
        drop(entered);
        result
    };
    terms.stats.ended.add(1);
    // Pending signals need no look: there was no wait outside of Python code, which runs their handlers by itself.
    signals::raise_kept()?;
    result
}

/// A coroutine that runs the target, and raises TimeoutError if it has not ended in time.
fn within(py: Python<'_>, target: Target, timeout: Duration) -> PyResult<Target> {
    let inner = target.begin(py)?;
    let made = names::within(py)?.call1((inner, timeout.as_secs_f64()))?;
    Ok(Target::Coroutine(made.unbind()))
}

/// Starts the last step of an object in a task of its own, for a caller that can't await it. An error that it raises
/// goes to the loop's exception handler. `context` is used where the caller's is not shared (by 1).
pub fn close_later(py: Python<'_>, terms: &Terms, target: Target, context: &Py<PyAny>) {
    let Target::Step { function, args } = target else { return target.discard(py) };
    let started = || -> PyResult<()> {
        let Some(event_loop) = names::running_loop(py)? else { return Ok(()) };
        let context = (!terms.shares_context).then_some(context);
        names::close_later(py)?.call1((event_loop, function, args, context)).map(drop)
    };
    if let Err(error) = started() {
        error.write_unraisable(py, None);
    }
}

fn descend(py: Python<'_>, strand: &Strand, target: Target) -> PyResult<Py<PyAny>> {
    match strand.descend(py, target)? {
        Answer::Ended(ended) => ended,
        Answer::Sent(_) | Answer::Thrown(_) => Err(PyRuntimeError::new_err("a nested call was resumed before its end")),
    }
}

/// Drives `inner` to its end, as `await` does. What `inner` waits for is handed on to the task that this code runs in.
/// `parks` is told each time that the stack is left, and entered again.
fn to_the_end(strand: &Strand, inner: &Bound<'_, PyAny>, parks: impl Fn(bool)) -> PyResult<Py<PyAny>> {
    let py = inner.py();
    let mut stepped = driven::send(inner, py.None().bind(py))?;
    loop {
        let awaited = match stepped {
            PySendResult::Return(value) => return Ok(value.unbind()),
            PySendResult::Next(awaited) => awaited,
        };
        parks(true);
        let answer = strand.suspend(inner, awaited);
        parks(false);
        stepped = match answer {
            Ok(Answer::Sent(value)) => driven::send(inner, value.bind(py))?,
            Ok(Answer::Thrown(thrown)) => driven::throw(inner, thrown)?,
            Ok(Answer::Ended(_)) => return Err(PyRuntimeError::new_err("a nested call ended that was not made")),
            Err(error) => return Err(given_up(inner, error)),
        };
    }
}

/// For a greenlet that something was thrown into while it was parked: by 2 closes the coroutine, or throws the error
/// into it if that is another one. Returns the error, which ends the caller, too.
fn given_up(inner: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = inner.py();
    let is_exit = greenlets::loaded(py).is_ok_and(|api| api.is_exit(py, &error));
    let closed = if is_exit {
        inner.call_method0(intern!(py, "close")).map(drop)
    } else {
        driven::throw(inner, Thrown::of(py, error.clone_ref(py))).map(drop)
    };
    match closed {
        Err(failed) if !failed.value(py).is(error.value(py)) => failed.write_unraisable(py, Some(inner)),
        _ => {}
    }
    error
}
