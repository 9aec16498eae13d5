//! What a call has to know of itself while a trace is recorded: how it is told apart there, and what was noted of it.
//!
//! The parts of a call that one thread runs without a break are slices of that thread. A call that suspends also has a
//! track of its own, from its first step to its end, on which its nested calls are shown.

use crate::python::tracing::{self, Kind};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

// Only the thread that steps the call stores what is atomic here.
pub struct Observed {
    /// The trace's.
    number: u64,
    pub id: u64,
    text: AtomicU32,
    /// When its first step began; 0 before that.
    begun: AtomicU64,
    /// Whether it has a track of its own.
    has_track: AtomicBool,
}

impl Observed {
    /// For a call that this thread sends. If the thread does not wait for it, `by` is what sends it: a short slice,
    /// from which the arrow starts.
    pub fn new(number: u64, by: Option<&str>) -> Self {
        let (id, text) = tracing::send(number, by);
        Self { number, id, text: AtomicU32::new(text), begun: AtomicU64::new(0), has_track: AtomicBool::new(false) }
    }

    /// For a call that begins on the loop of this thread, and that is no hop. `by` is as above.
    pub fn made_here(number: u64, by: &str, text: u32) -> Self {
        let id = tracing::begin_here(number, by, text);
        Self { number, id, text: AtomicU32::new(text), begun: AtomicU64::new(0), has_track: AtomicBool::new(false) }
    }

    /// Says which function it calls, unless that is known.
    pub fn name(&self, function: impl FnOnce() -> u32) {
        if self.text.load(Relaxed) == tracing::UNKNOWN {
            self.text.store(function(), Relaxed);
        }
    }

    /// A step of its coroutine begins in this thread.
    pub fn begin_step(&self) {
        let at = tracing::note_at(self.number, Kind::Step, self.id, self.text.load(Relaxed), 0, None);
        if self.begun.load(Relaxed) == 0 {
            self.begun.store(at, Relaxed);
        } else {
            // Not the first step. Where tasks don't start eagerly, `need_track` was called before that one, in vain.
            self.need_track();
        }
    }

    pub fn end_step(&self) {
        tracing::note(self.number, Kind::StepEnd, self.id, self.text.load(Relaxed), 0);
    }

    /// It has suspended, or makes a nested call: from now on it has a track of its own.
    pub fn need_track(&self) {
        let begun = self.begun.load(Relaxed);
        if begun != 0 && !self.has_track.load(Relaxed) {
            self.has_track.store(true, Relaxed);
            tracing::note_at(self.number, Kind::Task, self.id, self.text.load(Relaxed), 0, Some(begun));
        }
    }

    pub fn end<T>(&self, py: Python<'_>, result: Result<T, &PyErr>) {
        if self.has_track.load(Relaxed) {
            let outcome = tracing::outcome(py, result);
            tracing::note(self.number, Kind::TaskEnd, self.id, self.text.load(Relaxed), outcome);
        }
    }
}
