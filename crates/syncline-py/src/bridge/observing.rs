//! Calls that somebody looks at: a trace is recorded, spans are made of them, or the bridge measures how long they
//! take.
//!
//! Invariants:
//! 1. Nobody comes here as long as no one looks. A bridge's state says that, at which each call looks anyway.
//! 2. A slice of a thread is noted only for a call that blocks it. Where the calling task is parked meanwhile, other
//!    tasks have their slices there.

use super::placement::Place;
use super::shared::{BridgeState, Shared};
use crate::call::stepping::stepped_call;
use crate::call::wait::Patience;
use crate::coroutine::target::Target;
use crate::python::per_process::{PerProcess, inherited};
use crate::python::residents;
use crate::python::spans::{self, Span};
use crate::python::{recorded_names, recording, tracing};
use crate::runner::turns;
use crate::switch::nest;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;
use syncline_core::sync::lock;
use syncline_core::trace_events::Kind;
use syncline_core::weak_list::WeakVec;

/// The bridges of this process.
static ALL: PerProcess<WeakVec<Shared>> = PerProcess::new();

/// Adds a new bridge.
pub fn remember(shared: &Arc<Shared>) {
    shared.loops.state.set(BridgeState::OBSERVED, recording::is_wanted());
    lock(ALL.get(inherited)).add(Arc::downgrade(shared));
}

/// Tells all bridges whether anyone looks at their calls.
fn tell_all() {
    let is_wanted = recording::is_on() || spans::are_made();
    recording::set_wanted(is_wanted);
    let known = lock(ALL.get(inherited)).alive();
    for shared in known {
        shared.loops.state.set(BridgeState::OBSERVED, is_wanted);
    }
}

/// For a forked child, which records no trace.
pub fn after_fork() {
    recording::after_fork();
    tell_all();
}

/// Begins a trace into the file at `path`, and returns its number. `now` is `time.monotonic_ns()`.
#[pyfunction]
#[pyo3(signature = (path, process, now, /))]
pub fn begin_trace(py: Python<'_>, path: &str, process: &str, now: u64) -> PyResult<u64> {
    let number = recording::begin(path, process, now)?;
    tell_all();
    residents::event_loops(py).iter().for_each(turns::watch);
    Ok(number)
}

/// Ends the trace; returns how many records it has lost, or None if it had ended.
#[pyfunction]
#[pyo3(signature = (number, /))]
pub fn end_trace(py: Python<'_>, number: u64) -> PyResult<Option<u64>> {
    let ended = recording::end(py, number);
    if !matches!(ended, Ok(None)) {
        tell_all();
        residents::event_loops(py).iter().for_each(turns::leave);
    }
    ended
}

/// How many records the trace has lost so far; None if it has ended.
#[pyfunction]
#[pyo3(signature = (number, /))]
pub fn trace_lost(number: u64) -> Option<u64> {
    recording::lost(number)
}

/// From now on `maker` is told of each call that sync code waits for; None: nobody is.
#[pyfunction]
#[pyo3(signature = (maker, /))]
pub fn set_span_maker(maker: Option<Py<PyAny>>) {
    spans::set(maker);
    tell_all();
}

impl Shared {
    /// Runs the target at the place that `place` finds, and waits for its result; for an open bridge. `object` gives the
    /// call its name.
    #[cold]
    pub fn observed(
        self: &Arc<Self>,
        object: &Bound<'_, PyAny>,
        target: Target,
        place: impl FnOnce() -> PyResult<(Place, Patience)>,
    ) -> PyResult<Py<PyAny>> {
        let py = object.py();
        let (target, span) = target.with(py, Span::begin(object, "run_sync", Some(&self.name)))?;
        let begun = self.loops.hops.as_ref().map(|_| Instant::now());
        let placed = target.with(py, place());
        let result = placed.and_then(|(target, (place, patience))| {
            let is_hop = matches!(&place, Place::Runner(_));
            let result = match place {
                Place::InTask(strand) => self.nested(object, |id, trace| {
                    let kind = |parks| if parks { Kind::Parked } else { Kind::Resumed };
                    let parks = |parks| {
                        tracing::note(trace, kind(parks), id, 0, 0);
                    };
                    nest::run_watched(py, &self.terms, &strand, target, patience.timeout, parks)
                }),
                Place::Away(_) => self.nested(object, |_, _| self.execute(py, place, target, patience)),
                _ => self.blocking(object, || self.execute(py, place, target, patience)),
            };
            if is_hop {
                self.measure(begun);
            }
            result
        });
        span.end(py, result)
    }

    /// Makes a step of an iterator or a manager. `blocks` says whether this thread waits for it, `is_hop` whether on
    /// another one.
    pub fn observed_step(
        &self,
        object: &Bound<'_, PyAny>,
        blocks: bool,
        is_hop: bool,
        step: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let begun = self.loops.hops.as_ref().map(|_| Instant::now());
        let result = if blocks { self.blocking(object, step) } else { self.nested(object, |_, _| step()) };
        if is_hop && blocks {
            self.measure(begun);
        }
        result
    }

    /// `begun` is known if it is to be measured.
    fn measure(&self, begun: Option<Instant>) {
        if let Some((hops, begun)) = self.loops.hops.as_ref().zip(begun) {
            hops.add(begun.elapsed());
        }
    }

    /// A call for which this thread waits: a slice of this thread (by 2).
    fn blocking(&self, object: &Bound<'_, PyAny>, call: impl FnOnce() -> PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        tracing::blocking(object, &self.name, call)
    }

    /// A call that a task makes and awaits in place: a part of the track of that task's own call. `call` is given that
    /// call's number, and the trace's.
    fn nested(
        &self,
        object: &Bound<'_, PyAny>,
        call: impl FnOnce(u64, u64) -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let trace = recording::number();
        if trace == 0 {
            return call(0, 0);
        }
        let outer = stepped_call();
        let id = outer.as_ref().and_then(|outer| outer.observed()).map(|outer| {
            outer.need_track();
            outer.id
        });
        let (id, text) = tracing::begin_nested(trace, id, object, &self.name);
        let result = call(id, trace);
        let outcome = recorded_names::outcome(object.py(), result.as_ref());
        tracing::note(trace, Kind::NestedEnd, id, text, outcome);
        result
    }
}
