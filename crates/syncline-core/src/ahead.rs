//! Whether a caller queues for the interpreter before its result is there.
//!
//! Beside a thread that computes, whoever wants the interpreter waits for a whole switch interval (5 ms). The loop's
//! thread waits for it once, to run the call; a caller that is woken by its result then waits once more. But a caller
//! that queues before the loop's thread does waits at the same time, and comes next after it: the computing thread,
//! when it has let go of the interpreter, queues behind both. (Who has waited for an interval asks for the interpreter,
//! and then queues anew. So the first one in the queue is served second.)
//!
//! Rules:
//! 1. A caller queues early only where the last attempt to get the interpreter took long, and nobody else waits for the
//!    same loop.
//! 2. After some calls in a row whose result was not there yet, calls are passed over: two, then twice as many after
//!    each further one, up to 32. A result that is there resets this.
//! 3. The loop's thread waits for a caller that has announced itself until that queues, and never for longer than
//!    `LONGEST_WAIT`.

use crate::latch::Latch;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Arc, Mutex, lock, replace};
use std::time::Duration;

/// Getting the interpreter takes longer than that where another thread computes, which gives it away only when asked.
const HOGGED: Duration = Duration::from_millis(1);
/// So long the caller waits before it queues: the computing thread needs that to wake up, and to take the interpreter
/// that the caller has let go of. (If the caller took it again at once, it would be in its own way.)
pub const BEFORE_QUEUEING: Duration = Duration::from_micros(150);
/// By 3.
const LONGEST_WAIT: Duration = Duration::from_millis(1);
const FAILURES_AT_ONCE: u32 = 2;
const MOST_PASSED_OVER: u32 = 32;

#[derive(Debug)]
pub struct Ahead {
    hogged: AtomicBool,
    failures: AtomicU32,
    pass_over: AtomicU32,
    /// Opened by a caller that is about to queue.
    coming: Mutex<Option<Arc<Latch>>>,
}

/// A caller that has announced itself.
#[derive(Debug)]
pub struct Coming<'a> {
    ahead: &'a Ahead,
    queues: Arc<Latch>,
}

impl Coming<'_> {
    /// The caller queues with its next step.
    pub fn queue(self) {}
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut coming = lock(&self.ahead.coming);
        // Not that of another caller, which has announced itself since.
        if coming.as_ref().is_some_and(|coming| Arc::ptr_eq(coming, &self.queues)) {
            *coming = None;
        }
        drop(coming);
        self.queues.open();
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            hogged: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            pass_over: AtomicU32::new(0),
            coming: Mutex::default(),
        }
    }
}

impl Ahead {
    /// For a caller that is about to send its call: announces it, if it is to queue before its result is there.
    /// `is_alone` says, for 1, that nobody else waits for the same loop.
    pub fn announce(&self, is_alone: bool) -> Option<Coming<'_>> {
        let is_due = self.hogged.load(Relaxed)
            && is_alone
            && self.pass_over.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err();
        is_due.then(|| {
            let queues = Arc::new(Latch::new());
            drop(replace(&self.coming, Some(Arc::clone(&queues))));
            Coming { ahead: self, queues }
        })
    }

    /// For the loop's thread, before it queues: waits for a caller that has announced itself (by 3).
    pub fn let_pass(&self) {
        if !self.hogged.load(Relaxed) {
            return;
        }
        let coming = lock(&self.coming).clone();
        if let Some(coming) = coming {
            coming.wait(Some(LONGEST_WAIT));
        }
    }

    /// Notes how long it took to get the interpreter.
    pub fn note_attach(&self, took: Duration) {
        // Most calls write nothing here.
        if self.hogged.load(Relaxed) != (took > HOGGED) {
            self.hogged.store(took > HOGGED, Relaxed);
        }
    }

    /// Notes, for 2, whether a caller that had queued found its result there.
    pub fn record(&self, is_there: bool) {
        if is_there {
            self.failures.store(0, Relaxed);
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed);
        if let Some(in_vain) = failures.checked_sub(FAILURES_AT_ONCE) {
            self.pass_over.store((2 << in_vain.min(16)).min(MOST_PASSED_OVER), Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_hogged_interpreter_is_queued_for_and_only_by_one() {
        let ahead = Ahead::default();
        assert!(ahead.announce(true).is_none());
        ahead.note_attach(HOGGED * 2);
        assert!(ahead.announce(true).is_some());
        assert!(ahead.announce(false).is_none());
        ahead.note_attach(Duration::ZERO);
        assert!(ahead.announce(true).is_none());
    }

    #[test]
    fn results_that_are_not_there_make_it_rarer_and_one_that_is_brings_it_back() {
        let ahead = Ahead::default();
        ahead.note_attach(HOGGED * 2);
        let mut queued = 0;
        for _ in 0..1000 {
            if ahead.announce(true).is_some() {
                ahead.record(false);
                queued += 1;
            }
        }
        assert!((10..50).contains(&queued), "queued {queued} times");
        while ahead.announce(true).is_none() {}
        ahead.record(true);
        assert!(ahead.announce(true).is_some());
    }

    #[test]
    fn the_loops_thread_waits_for_nobody_who_has_queued() {
        let ahead = Ahead::default();
        ahead.note_attach(HOGGED * 2);
        ahead.announce(true).expect("it is hogged").queue();
        ahead.let_pass();
        assert!(lock(&ahead.coming).is_none());
    }
}
