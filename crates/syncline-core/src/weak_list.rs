//! Those who are to be told of something at the end, if they are still there by then.
//!
//! Invariants:
//! 1. Nothing is dropped under the lock but memory: a weak reference runs no code.

use crate::sync::{Mutex, lock, take};
use std::sync::{Arc, Weak};

#[derive(Debug)]
pub struct WeakList<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Default for WeakList<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T: ?Sized> WeakList<T> {
    pub fn add(&self, one: Weak<T>) {
        let mut known = lock(&self.0);
        if known.len() == known.capacity() {
            known.retain(|one| one.strong_count() > 0);
            // Room for as many again, so that this search comes seldom enough to cost each addition next to nothing.
            let alive = known.len().max(16);
            known.reserve(alive);
        }
        known.push(one);
    }

    /// Those that are still there.
    pub fn alive(&self) -> Vec<Arc<T>> {
        let known = lock(&self.0).clone();
        known.iter().filter_map(Weak::upgrade).collect()
    }

    /// Empties the list; returns those that are still there.
    pub fn take(&self) -> Vec<Arc<T>> {
        take(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let list = WeakList::default();
        let kept: Vec<_> = (0..3).map(Arc::new).collect();
        for number in 0..1000 {
            list.add(Arc::downgrade(&Arc::new(number)));
        }
        kept.iter().for_each(|one| list.add(Arc::downgrade(one)));
        assert!(lock(&list.0).capacity() < 100);
        assert_eq!(list.alive(), kept);
        assert_eq!(list.take(), kept);
        assert!(list.take().is_empty());
    }
}
