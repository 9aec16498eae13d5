//! When a thread may spin for a short while before it sleeps, and when not.
//!
//! Sleeping and being woken on another core costs 30 to 50 microseconds; a result that arrives sooner is met by a spin
//! for a tenth of that. But a spin that fails is CPU time stolen from whoever could have produced the result.
//!
//! Rules:
//! 1. Never where the process may use one core only, nor when the other thread last ran on our own core.
//! 2. One spinning thread at a time for each `Spin`. 3. After some failures in a row, each further one doubles the number
//!    of turns that are passed over (up to 32); one success resets it. 4. `note_attach` stops it where the interpreter is
//!    contended. 5. Two threads that both sleep are slow to meet: each wakes too late for the other's spin. So after a
//!    failure spins are longer ones, which outlast a wake-up: whatever came between the two, the next call mends it.
//! 6. Not so where others wait for the same thread: it has more to do than our call, and they need the core.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

/// About what one sleep and wake-up costs: spinning longer than that loses even when it wins.
pub const BUDGET: Duration = Duration::from_micros(20);
const MOST_PASSED_OVER: u32 = 32;
/// By 5.
const PROBE: Duration = Duration::from_micros(80);
/// By 3.
const PROBES_AT_ONCE: u32 = 2;

/// Attaching without contention takes well under a microsecond.
pub const SLOW_ATTACH: Duration = Duration::from_micros(200);
const TURNS_HELD_OFF: u32 = 256;

/// The core that a thread last ran on, as far as is known.
pub const UNKNOWN_CPU: u32 = u32::MAX;

/// The core that this thread runs on now.
pub fn current_cpu() -> u32 {
    #[cfg(all(target_os = "linux", not(miri)))]
    return u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(UNKNOWN_CPU);
    #[cfg(not(all(target_os = "linux", not(miri))))]
    UNKNOWN_CPU
}

/// How many cores this process may use.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Debug)]
pub struct Spin {
    allowed: bool,
    busy: AtomicBool,
    failures: AtomicU32,
    pass_over: AtomicU32,
    won: AtomicU64,
    lost: AtomicU64,
}

impl Spin {
    pub fn new(usable_cores: usize) -> Self {
        Self {
            allowed: usable_cores > 1,
            busy: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            pass_over: AtomicU32::new(0),
            won: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Polls for a short while, if that can pay. `other_cpu` is where the thread that we wait for ran last; by 6 it matters
    /// whether nobody else waits for it.
    pub fn attempt(&self, other_cpu: u32, is_alone: bool, done: impl Fn() -> bool) -> bool {
        if done() {
            return true;
        }
        if !self.may_start(other_cpu) {
            return false;
        }
        let probes = is_alone && self.failures.load(Relaxed) > 0;
        let won = poll(if probes { PROBE } else { BUDGET }, done);
        self.record(won, is_alone);
        self.busy.store(false, Release);
        won
    }

    /// Polls for more of what has begun to come.
    pub fn linger(&self, other_cpu: u32, done: impl Fn() -> bool) {
        if self.allowed && other_cpu != current_cpu() {
            poll(BUDGET, done);
        }
    }

    /// Tells how long it took to get the interpreter back; where others contend for it, a spin is stolen from them.
    pub fn note_attach(&self, took: Duration) {
        if took > SLOW_ATTACH {
            self.pass_over.fetch_max(TURNS_HELD_OFF, Relaxed);
        }
    }

    /// How many spins met what they waited for, and how many did not.
    pub fn counts(&self) -> (u64, u64) {
        (self.won.load(Relaxed), self.lost.load(Relaxed))
    }

    fn may_start(&self, other_cpu: u32) -> bool {
        if !self.allowed || other_cpu == current_cpu() {
            return false;
        }
        let passed_over = self.pass_over.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        !passed_over && !self.busy.swap(true, Acquire)
    }

    fn record(&self, won: bool, is_alone: bool) {
        if won {
            self.won.fetch_add(1, Relaxed);
            self.failures.store(0, Relaxed);
            return;
        }
        self.lost.fetch_add(1, Relaxed);
        let failures = self.failures.fetch_add(1, Relaxed);
        let tries = if is_alone { PROBES_AT_ONCE } else { 0 };
        if let Some(in_vain) = failures.checked_sub(tries) {
            self.pass_over.store((2 << in_vain.min(16)).min(MOST_PASSED_OVER), Relaxed);
        }
    }
}

fn poll(longest: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + longest;
    // The clock is read between polls: it takes about as long as a poll may be late.
    loop {
        std::hint::spin_loop();
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A core on which no thread of a test runs.
    const ELSEWHERE: u32 = u32::MAX - 1;

    #[test]
    fn one_core_never_spins() {
        let polls = Cell::new(0);
        let spin = Spin::new(1);
        assert!(!spin.attempt(ELSEWHERE, true, || {
            polls.set(polls.get() + 1);
            false
        }));
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn failures_make_spins_rarer_and_a_success_brings_them_back() {
        let spin = Spin::new(2);
        for _ in 0..1000 {
            assert!(!spin.attempt(ELSEWHERE, true, || false));
        }
        let (won, lost) = spin.counts();
        assert_eq!(won, 0);
        assert!(lost < 50, "{lost} spins were lost");
        while spin.counts().0 == 0 {
            let polls = Cell::new(0);
            spin.attempt(ELSEWHERE, true, || polls.replace(polls.get() + 1) > 0);
        }
        assert_eq!(spin.failures.load(Relaxed), 0);
    }

    #[test]
    fn only_one_thread_spins_at_a_time() {
        let spin = Spin::new(2);
        let nested = Cell::new(None);
        spin.attempt(ELSEWHERE, true, || {
            if nested.get().is_none() {
                nested.set(Some(false));
                return false;
            }
            nested.set(Some(spin.attempt(ELSEWHERE, true, || false)));
            true
        });
        assert_eq!(nested.get(), Some(false));
        assert_eq!(spin.counts(), (1, 0));
    }
}
