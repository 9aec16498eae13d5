//! What a call has to know of itself while a trace is recorded: how it is told apart there, and what was noted of it.
//!
//! The parts of a call that one thread runs without a break are slices of that thread. A call that suspends also has a
//! track of its own, from its first step to its end, on which its nested calls are shown.

use crate::python::recording::UNKNOWN;
use crate::python::{recorded_names, tracing};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use syncline_core::trace_events::Kind;

/// It has no track of its own.
const TRACKLESS: u8 = 0;
/// It has one.
const HAS_TRACK: u8 = 1;
/// It has one, and a step of it has ended since.
const STEPPED: u8 = 2;

// Only the thread that steps the call stores what is atomic here. Every call has room for this, traced or not.
pub struct Observed {
    /// The trace's.
    number: u64,
    pub id: u64,
    text: AtomicU32,
    track: AtomicU8,
    /// When its first step began; 0 before that. Where `track` is `STEPPED`, when the last one ended.
    at: AtomicU64,
}

impl Observed {
    /// For a call that this thread sends. If the thread does not wait for it, `by` is what sends it: a short slice,
    /// from which the arrow starts.
    pub fn new(number: u64, by: Option<&str>) -> Self {
        Self::of(number, tracing::send(number, by))
    }

    /// For a call that begins on the loop of this thread, and that is no hop. `by` is as above.
    pub fn made_here(number: u64, by: &str, text: u32) -> Self {
        Self::of(number, (tracing::begin_here(number, by, text), text))
    }

    fn of(number: u64, (id, text): (u64, u32)) -> Self {
        Self { number, id, text: AtomicU32::new(text), track: AtomicU8::new(TRACKLESS), at: AtomicU64::new(0) }
    }

    /// Says which function it calls, unless that is known.
    pub fn name(&self, function: impl FnOnce() -> u32) {
        if self.text.load(Relaxed) == UNKNOWN {
            self.text.store(function(), Relaxed);
        }
    }

    /// A step of its coroutine begins in this thread.
    pub fn begin_step(&self) {
        let at = tracing::note(self.number, Kind::Step, self.id, self.text.load(Relaxed), 0);
        if self.at.load(Relaxed) == 0 {
            self.at.store(at, Relaxed);
        } else {
            // Not the first step. Where tasks don't start eagerly, `need_track` was called before that one, in vain.
            self.need_track();
        }
    }

    pub fn end_step(&self) {
        let at = tracing::note(self.number, Kind::StepEnd, self.id, self.text.load(Relaxed), 0);
        if self.track.load(Relaxed) != TRACKLESS {
            self.track.store(STEPPED, Relaxed);
            self.at.store(at, Relaxed);
        }
    }

    /// It has suspended, or makes a nested call: from now on it has a track of its own.
    pub fn need_track(&self) {
        let begun = self.at.load(Relaxed);
        if begun != 0 && self.track.load(Relaxed) == TRACKLESS {
            self.track.store(HAS_TRACK, Relaxed);
            tracing::note_at(self.number, Kind::Task, self.id, self.text.load(Relaxed), 0, begun);
        }
    }

    pub fn end<T>(&self, py: Python<'_>, result: Result<T, &PyErr>) {
        let track = self.track.load(Relaxed);
        if track == TRACKLESS {
            return;
        }
        let (id, text, has_returned) = (self.id, self.text.load(Relaxed), result.is_ok());
        let outcome = recorded_names::outcome(py, result);
        if has_returned && track == STEPPED {
            // It has returned from its last step, and that was its end: no other look at the clock.
            tracing::note_at(self.number, Kind::TaskEnd, id, text, outcome, self.at.load(Relaxed));
        } else {
            tracing::note(self.number, Kind::TaskEnd, id, text, outcome);
        }
    }
}
