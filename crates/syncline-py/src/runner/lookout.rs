//! The threads that wait for a runner's loop for long: who of them looks after it, and how the others hear of it.
//!
//! Such a thread sleeps until it is roused. One of them, the keeper, wakes up once in a while and looks whether the
//! loop turns, whether somebody still runs it, and whether any of them can wait in vain.
//!
//! Invariants:
//! 1. Whoever has its seat looks after that at what it was told to look for. So it sees what came before, and is roused
//!    for what comes later: a runner that begins to close or has ended, an alarm, a keeper that has gone.
//! 2. If there is no keeper, one of those who can be one is roused, or about to leave; and who leaves while there is
//!    none rouses another. Who is away, as its thread runs an errand, can't hear, and so is neither keeper nor roused:
//!    it looks for itself when it is back.
//! 3. The lock is taken only while attached, and not in a forked child.

use crate::call::state::Call;
use crate::python::process;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;
use syncline_core::register::Register;
use syncline_core::sync::{Mutex, lock};

const NOBODY: u64 = 0;

struct OldWait {
    call: Arc<Call>,
    thread: u64,
    may_keep: bool,
    is_away: AtomicBool,
    /// It was asked to look by itself.
    is_alarmed: AtomicBool,
}

impl OldWait {
    fn alarm(&self) {
        self.is_alarmed.store(true, SeqCst);
        self.call.slot.rouse();
    }
}

pub struct Lookout {
    epoch: u32,
    waiters: Mutex<(u64, Register<Arc<OldWait>>)>,
    keeper: AtomicU64,
    /// The loop's turns at the last look, and since when they have been that many.
    seen_turns: Mutex<Option<(u64, Instant)>>,
}

impl Lookout {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: process::epoch(),
            waiters: Mutex::default(),
            keeper: AtomicU64::new(NOBODY),
            seen_turns: Mutex::default(),
        })
    }

    /// Has all who wait look up.
    pub fn rouse_all(&self) {
        lock(&self.waiters).1.iter().for_each(|(_, waiter)| waiter.call.slot.rouse());
    }

    /// Has those of these threads that wait look whether they wait in vain.
    pub fn alarm(&self, threads: &[u64]) {
        let waiters = lock(&self.waiters);
        waiters.1.iter().filter(|(_, waiter)| threads.contains(&waiter.thread)).for_each(|(_, waiter)| waiter.alarm());
    }

    /// The same for all who wait.
    pub fn alarm_all(&self) {
        lock(&self.waiters).1.iter().for_each(|(_, waiter)| waiter.alarm());
    }

    /// Since when the loop has been seen in that turn.
    pub fn in_turn_since(&self, turns: u64, now: Instant) -> Instant {
        let mut seen = lock(&self.seen_turns);
        let since = match *seen {
            Some((known, since)) if known == turns => since,
            _ => now,
        };
        *seen = Some((turns, since));
        since
    }

    /// By 2.
    fn rouse_a_keeper(&self) {
        if self.keeper.load(SeqCst) == NOBODY {
            let waiters = lock(&self.waiters);
            let next = waiters.1.iter().find(|(_, waiter)| waiter.may_keep && !waiter.is_away.load(SeqCst));
            if let Some((_, next)) = next {
                next.call.slot.rouse();
            }
        }
    }
}

/// The seat of a thread among those who wait.
pub struct Seat {
    lookout: Arc<Lookout>,
    number: u64,
    wait: Arc<OldWait>,
}

impl Seat {
    pub fn take(lookout: &Arc<Lookout>, call: &Arc<Call>, thread: u64, may_keep: bool) -> Self {
        let wait = Arc::new(OldWait {
            call: Arc::clone(call),
            thread,
            may_keep,
            is_away: AtomicBool::new(false),
            is_alarmed: AtomicBool::new(false),
        });
        let mut waiters = lock(&lookout.waiters);
        waiters.0 += 1;
        let number = waiters.0;
        waiters.1.add(number, Arc::clone(&wait));
        Self { lookout: Arc::clone(lookout), number, wait }
    }

    pub fn is_keeper(&self) -> bool {
        self.lookout.keeper.load(SeqCst) == self.number
    }

    /// Whether this is the keeper, or could become it.
    pub fn keep(&self) -> bool {
        let keeper = &self.lookout.keeper;
        match keeper.load(SeqCst) {
            NOBODY => self.wait.may_keep && keeper.compare_exchange(NOBODY, self.number, SeqCst, SeqCst).is_ok(),
            known => known == self.number,
        }
    }

    fn hand_over(&self) {
        let lookout = &self.lookout;
        let _ = lookout.keeper.compare_exchange(self.number, NOBODY, SeqCst, SeqCst);
        lookout.rouse_a_keeper();
    }

    /// Its thread does something else, as long as the guard lives.
    pub fn away(&self) -> Away<'_> {
        self.wait.is_away.store(true, SeqCst);
        self.hand_over();
        Away(&self.wait)
    }

    /// Whether there was an alarm since this was asked last.
    pub fn hears_alarm(&self) -> bool {
        self.wait.is_alarmed.swap(false, SeqCst)
    }
}

pub struct Away<'a>(&'a OldWait);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.is_away.store(false, SeqCst);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // By 3.
        if self.lookout.epoch != process::epoch() {
            return;
        }
        let removed = lock(&self.lookout.waiters).1.remove(self.number);
        drop(removed);
        self.hand_over();
    }
}
