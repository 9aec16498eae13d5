//! Where a thread that spins for a result meets the one that brings it.
//!
//! Word by any other way (a descriptor, a mailbox) costs a system call, and comes late to a thread that has gone to sleep
//! for it. So a thread that expects a result soon waits here for a moment, and only if it leaves has the other to send
//! word.
//!
//! Invariants:
//! 1. Of the two, exactly one is told that the other has to be told, or has come: `meet` is true if and only if `leave` is.

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

    /// The waiting thread is there. It has to `leave`.
    pub fn expect(&self) {
        self.0.store(EXPECTED, Release);
    }

    pub fn is_expected(&self) -> bool {
        self.0.load(Acquire) == EXPECTED
    }

    pub fn is_met(&self) -> bool {
        self.0.load(Acquire) == MET
    }

    /// The waiting thread goes: true if the result is there. Else the other one sends word.
    pub fn leave(&self) -> bool {
        self.0.compare_exchange(EXPECTED, NOBODY, AcqRel, Acquire).is_err()
    }

    /// The result is there: true if the waiting thread takes it. Else it has to be sent word.
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
