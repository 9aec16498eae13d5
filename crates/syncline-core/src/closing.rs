//! Whether a loop is being closed, as its calls know it, and who blocks the loop meanwhile.
//!
//! A nested call that is not made in place blocks the loop of the call around it, which can't tell that one's coroutine
//! that it is to end. So the blocking thread does, by what it raises, and it is roused for that.
//!
//! Invariants:
//! 1. Whoever blocks the loop looks at what it is to look for after it has been added. Whoever has something to tell
//!    says so first, and rouses then. So it is seen, or roused.

use crate::sync::Arc;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, SeqCst};
use crate::sync::{Mutex, lock};

pub trait Rouse {
    /// Has the thread that waits look up.
    fn rouse(&self);
}

#[derive(Debug)]
pub struct Closing<T> {
    has_begun: AtomicBool,
    /// The innermost one is the last.
    blocking: Mutex<Vec<Arc<T>>>,
}

impl<T> Default for Closing<T> {
    fn default() -> Self {
        Self { has_begun: AtomicBool::new(false), blocking: Mutex::new(Vec::new()) }
    }
}

impl<T: Rouse> Closing<T> {
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Acquire)
    }

    /// False if it was begun before.
    pub fn begin(&self) -> bool {
        let is_first = !self.has_begun.swap(true, SeqCst);
        self.rouse_all();
        is_first
    }

    /// Has all who block the loop look up.
    pub fn rouse_all(&self) {
        lock(&self.blocking).iter().for_each(|one| one.rouse());
    }

    /// Adds one who blocks the loop.
    pub fn add(&self, one: &Arc<T>) {
        lock(&self.blocking).push(Arc::clone(one));
    }

    pub fn remove(&self, one: &Arc<T>) {
        let mut blocking = lock(&self.blocking);
        let at = blocking.iter().rposition(|known| Arc::ptr_eq(known, one));
        let removed = at.map(|at| blocking.remove(at));
        drop(blocking);
        drop(removed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::slot::Slot;
    use std::time::Duration;

    impl Rouse for Slot<()> {
        fn rouse(&self) {
            Slot::rouse(self);
        }
    }

    fn was_roused(slot: &Slot<()>) -> bool {
        slot.wait(Some(Duration::from_millis(1))) == crate::latch::Waited::Roused
    }

    #[test]
    fn those_who_block_the_loop_are_roused_by_its_closing() {
        let closing = Closing::default();
        let [outer, inner, gone] = [(); 3].map(|()| Arc::new(Slot::<()>::new()));
        [&outer, &gone, &inner].iter().for_each(|one| closing.add(one));
        closing.remove(&gone);
        assert!(closing.begin() && closing.has_begun());
        assert!(was_roused(&outer) && was_roused(&inner) && !was_roused(&gone));
        assert!(!closing.begin());
    }
}
