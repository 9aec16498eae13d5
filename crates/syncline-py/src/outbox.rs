//! Results that are known, and wait for their loop's thread to let go of the interpreter.

use crate::call::Call;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use syncline_core::spin::SLOW_ATTACH;
use syncline_core::sync::{Mutex, lock};

/// A result waits for others at most that long while its loop is busy.
const LONGEST_DELAY: Duration = Duration::from_micros(100);

pub struct Outbox {
    calls: Mutex<Vec<Arc<Call>>>,
    oldest: Mutex<Option<Instant>>,
    /// Whether somebody will flush soon; else each result is published at once.
    pub deferring: AtomicBool,
    /// Another thread hogs the interpreter: a caller that is woken only when this thread lets go comes behind that one.
    hurried: AtomicBool,
}

impl Outbox {
    pub fn new(deferring: bool) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            oldest: Mutex::default(),
            deferring: AtomicBool::new(deferring),
            hurried: AtomicBool::new(false),
        })
    }

    pub fn add(&self, call: &Arc<Call>) {
        if self.hurried.load(Relaxed) || !self.deferring.load(Relaxed) {
            call.publish();
            return;
        }
        lock(&self.calls).push(Arc::clone(call));
        let is_late = lock(&self.oldest).get_or_insert_with(Instant::now).elapsed() > LONGEST_DELAY;
        if is_late {
            self.flush();
        }
    }

    /// Tells how long the loop's thread has waited for the interpreter.
    pub fn hurry(&self, attach_took: Duration) {
        self.hurried.store(attach_took > SLOW_ATTACH, Relaxed);
    }

    pub fn flush(&self) {
        let calls = std::mem::take(&mut *lock(&self.calls));
        if calls.is_empty() {
            return;
        }
        *lock(&self.oldest) = None;
        for call in &calls {
            call.publish();
        }
        // Keeps the vector's memory for the next batch.
        let mut kept = calls;
        kept.clear();
        let mut current = lock(&self.calls);
        if current.is_empty() {
            *current = kept;
        }
    }

    /// Flushes, detached if there is anything.
    pub fn flush_soon(&self, py: Python<'_>) {
        if !lock(&self.calls).is_empty() {
            py.detach(|| self.flush());
        }
    }
}
