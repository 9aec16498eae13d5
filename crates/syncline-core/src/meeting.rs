//! Where a thread that spins for a result meets the one that brings it.
//!
//! To wake a thread that sleeps costs a system call, and it comes late. So a thread that expects a result soon spins
//! here for a moment. Only if it leaves before the result is there has the other one to notify it in another way.
//!
//! Invariants:
//! 1. After `expect`, both sides agree on whether they met: `meet` is true if and only if `leave` is. So a result is
//!    neither lost nor taken twice.

use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Release};

const NOBODY: u8 = 0;
const EXPECTED: u8 = 1;
const MET: u8 = 2;

#[derive(Debug)]
pub struct Meeting(AtomicU8);

impl Default for Meeting {
    fn default() -> Self {
        Self(AtomicU8::new(NOBODY))
    }
}

impl Meeting {
    pub fn new() -> Self {
        Self::default()
    }

    /// The waiting thread says that it is there. It has to `leave` later.
    pub fn expect(&self) {
        self.0.store(EXPECTED, Release);
    }

    pub fn is_expected(&self) -> bool {
        self.0.load(Acquire) == EXPECTED
    }

    pub fn is_met(&self) -> bool {
        self.0.load(Acquire) == MET
    }

    /// The waiting thread goes. True if the result is there; else the other one will notify it.
    pub fn leave(&self) -> bool {
        self.0.compare_exchange(EXPECTED, NOBODY, AcqRel, Acquire).is_err()
    }

    /// The result is there. True if the waiting thread takes it; else it has to be notified.
    pub fn meet(&self) -> bool {
        self.0.compare_exchange(EXPECTED, MET, AcqRel, Acquire).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_the_other_waits_meets_it() {
        let meeting = Meeting::new();
        meeting.expect();
        assert!(meeting.meet());
        assert!(meeting.is_met());
        assert!(meeting.leave());
    }

    #[test]
    fn who_comes_late_meets_nobody() {
        let meeting = Meeting::new();
        meeting.expect();
        assert!(!meeting.leave());
        assert!(!meeting.meet());
        assert!(!meeting.is_met());
    }
}
