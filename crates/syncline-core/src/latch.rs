//! A latch: closed at first, opened once, waited for by any number of threads.
//!
//! `std`'s parker and condvar both retry when a signal interrupts them, so that a Ctrl-C would go unseen until the
//! wait ends by itself. This one returns ([`Waited::Interrupted`]), for Python's handlers to run.
//!
//! Invariants:
//! 1. The word (the atomic number that says how the latch stands) goes CLOSED -> AWAITED -> OPEN or CLOSED -> OPEN,
//!    and never back. AWAITED: somebody sleeps here, or is about to, and has to be woken.
//! 2. Nobody sleeps while the word is OPEN: a sleeper sets AWAITED first, and the kernel compares the word with
//!    AWAITED when it puts the thread to sleep; `open` swaps the word before it wakes.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

const CLOSED: u32 = 0;
const AWAITED: u32 = 1;
const OPEN: u32 = 2;

/// Why a wait came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waited {
    Open,
    TimedOut,
    Interrupted,
}

#[derive(Debug, Default)]
pub struct Latch {
    word: AtomicU32,
    sleepers: sleepers::Sleepers,
}

impl Latch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_open(&self) -> bool {
        self.word.load(Acquire) == OPEN
    }

    /// Opens the latch; costs a system call only if somebody sleeps.
    pub fn open(&self) {
        if self.word.swap(OPEN, Release) == AWAITED {
            self.sleepers.wake_all(&self.word);
        }
    }

    /// Sleeps until the latch opens, the time is over, or a signal arrives. May return `Interrupted` without a reason.
    pub fn wait(&self, timeout: Option<Duration>) -> Waited {
        // `open` may run between this exchange and the sleep. By 2 the word is not AWAITED then, and the sleep
        // returns at once.
        if self.word.compare_exchange(CLOSED, AWAITED, Relaxed, Acquire) == Err(OPEN) {
            return Waited::Open;
        }
        let waited = self.sleepers.sleep(&self.word, AWAITED, timeout);
        if self.is_open() { Waited::Open } else { waited }
    }

    /// Waits until the latch is open or the time is over, through every interruption.
    pub fn wait_through(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|span| std::time::Instant::now().checked_add(span));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
            match self.wait(left) {
                Waited::Open => return true,
                Waited::TimedOut => return false,
                Waited::Interrupted => {}
            }
        }
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
mod sleepers {
    //! Linux: a futex on the latch's word.
    use super::Waited;
    use rustix::io::Errno;
    use rustix::thread::futex;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub struct Sleepers;

    impl Sleepers {
        pub fn wake_all(&self, word: &AtomicU32) {
            // Fails only for a bad address, and the word's is good.
            let _ = futex::wake(word, futex::Flags::PRIVATE, i32::MAX as u32);
        }

        pub fn sleep(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Waited {
            // A time too long for the kernel's type counts as no limit.
            let span = timeout.and_then(|t| futex::Timespec::try_from(t).ok());
            match futex::wait(word, futex::Flags::PRIVATE, expected, span.as_ref()) {
                Err(Errno::TIMEDOUT) => Waited::TimedOut,
                _ => Waited::Interrupted,
            }
        }
    }
}

#[cfg(any(not(target_os = "linux"), loom))]
mod sleepers {
    //! Elsewhere, and under loom: a condvar that behaves as a futex. A signal does not wake it, so whoever has to see
    //! signals sleeps for a short time only, looks, and sleeps again.
    use super::Waited;
    use crate::sync::atomic::{AtomicU32, Ordering::Acquire};
    use crate::sync::{Condvar, Mutex, lock};
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub struct Sleepers {
        gate: Mutex<()>,
        woken: Condvar,
    }

    impl Sleepers {
        pub fn wake_all(&self, _word: &AtomicU32) {
            // A sleeper that has compared the word and does not sleep yet holds the gate, and would miss the
            // notification. Once we get the gate, it sleeps.
            drop(lock(&self.gate));
            self.woken.notify_all();
        }

        pub fn sleep(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Waited {
            let gate = lock(&self.gate);
            if word.load(Acquire) != expected {
                return Waited::Interrupted;
            }
            let Some(span) = timeout else {
                drop(self.woken.wait(gate));
                return Waited::Interrupted;
            };
            match self.woken.wait_timeout(gate, span) {
                Ok((_, result)) if result.timed_out() => Waited::TimedOut,
                _ => Waited::Interrupted,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn an_open_latch_is_never_waited_for() {
        let latch = Latch::new();
        latch.open();
        assert_eq!(latch.wait(None), Waited::Open);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over() {
        assert!(!Latch::new().wait_through(Some(Duration::from_millis(1))));
    }

    #[test]
    fn every_sleeper_is_woken() {
        let latch = Arc::new(Latch::new());
        let sleepers: Vec<_> = (0..4)
            .map(|_| {
                let latch = Arc::clone(&latch);
                thread::spawn(move || latch.wait_through(None))
            })
            .collect();
        latch.open();
        assert!(sleepers.into_iter().all(|s| s.join().is_ok_and(|open| open)));
    }
}
