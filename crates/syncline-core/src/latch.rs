//! A latch: closed at first, opened once, waited for by any number of threads. As long as it is closed, whoever waits
//! can be roused: the wait comes back, and may be made again.
//!
//! `std`'s parker and condvar both retry when a signal interrupts them, so that a Ctrl-C would go unseen until the
//! wait ends by itself. This one returns ([`Waited::Interrupted`]), for Python's handlers to run.
//!
//! Invariants:
//! 1. The word (the atomic number that says how the latch stands) changes between CLOSED, AWAITED and ROUSED, until it
//!    is OPEN, for good. AWAITED: somebody sleeps here, or is about to, and has to be woken. ROUSED: the next wait, or
//!    the present one, comes back at once, and makes it CLOSED.
//! 2. Nobody sleeps while the word is OPEN or ROUSED: a sleeper sets AWAITED first, and the kernel compares the word
//!    with AWAITED when it puts the thread to sleep; `open` and `rouse` change the word before they wake.
//! 3. A latch that is roused has one waiter: with several, one of them would hear of it.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

const CLOSED: u32 = 0;
const AWAITED: u32 = 1;
const OPEN: u32 = 2;
const ROUSED: u32 = 3;

/// Why a wait came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waited {
    Open,
    Roused,
    TimedOut,
    Interrupted,
}

#[derive(Debug, Default)]
pub struct Latch {
    word: AtomicU32,
    sleepers: sleepers::Sleepers,
}

/// Opens the latch as it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Opening<'a>(&'a Latch);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
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

    /// Opens the latch as what this returns is dropped, however the code until then ends.
    pub const fn open_at_the_end(&self) -> Opening<'_> {
        Opening(self)
    }

    /// Whether a wait would come back at once: the latch is open, or its waiter was roused.
    pub fn is_stirred(&self) -> bool {
        self.word.load(Acquire) >= OPEN
    }

    /// Lets the wait come back, or the next one if nobody waits; not where the latch is open. What the caller has done
    /// before, the waiter sees.
    pub fn rouse(&self) {
        let roused = self.word.fetch_update(AcqRel, Acquire, |word| (word != OPEN).then_some(ROUSED));
        if roused == Ok(AWAITED) {
            self.sleepers.wake_all(&self.word);
        }
    }

    /// Sleeps until the latch opens, somebody rouses the waiter, the time is over, or a signal arrives. May return
    /// `Interrupted` without a reason.
    pub fn wait(&self, timeout: Option<Duration>) -> Waited {
        // `open` may run between this exchange and the sleep. By 2 the word is not AWAITED then, and the sleep
        // returns at once.
        let waited = match self.word.compare_exchange(CLOSED, AWAITED, Acquire, Acquire) {
            Err(OPEN) => return Waited::Open,
            Err(ROUSED) => Waited::Interrupted,
            _ => self.sleepers.sleep(&self.word, AWAITED, timeout),
        };
        if self.is_open() {
            return Waited::Open;
        }
        // Fails where nobody has roused us; or where the latch has opened since, which the next wait sees.
        let was_roused = self.word.compare_exchange(ROUSED, CLOSED, Acquire, Acquire).is_ok();
        if was_roused { Waited::Roused } else { waited }
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
        assert_eq!(Latch::new().wait(Some(Duration::from_millis(1))), Waited::TimedOut);
    }

    #[test]
    fn a_roused_waiter_comes_back_once() {
        let latch = Latch::new();
        latch.rouse();
        assert!(latch.is_stirred() && !latch.is_open());
        assert_eq!(latch.wait(None), Waited::Roused);
        assert_eq!(latch.wait(Some(Duration::from_millis(1))), Waited::TimedOut);
        latch.open();
        latch.rouse();
        assert_eq!(latch.wait(None), Waited::Open);
    }

    #[test]
    fn every_sleeper_is_woken() {
        let latch = Arc::new(Latch::new());
        let sleepers: Vec<_> = (0..4)
            .map(|_| {
                let latch = Arc::clone(&latch);
                thread::spawn(move || while latch.wait(None) != Waited::Open {})
            })
            .collect();
        latch.open();
        assert!(sleepers.into_iter().all(|sleeper| sleeper.join().is_ok()));
    }
}
