//! Counters of one bridge. They are only shown, and decide nothing. So they are relaxed atomics, and a reader may see
//! one counter older than another.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Stats {
    /// Calls begun.
    pub calls: Counter,
    /// Calls whose caller has stopped waiting, or whose future is done.
    pub ended: Counter,
    /// Calls made by sync code that a coroutine on one of our loops called.
    pub nested: Counter,
    /// System calls made to wake a parked loop.
    pub wakes: Counter,
}
