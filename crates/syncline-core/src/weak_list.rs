//! A list of weak references, to those who are to be told of something later, or shown, if they are there by then.
//!
//! Invariants:
//! 1. Nothing is dropped under the lock but memory: a weak reference runs no code.
//! 2. Adding takes the same time however long the list is, and what is gone keeps no memory for long: each addition
//!    looks at some that are known, in turn, and forgets those that are gone.

use crate::sync::{Mutex, lock, replace};
use std::sync::{Arc, Weak};

/// How many references an addition looks at. It stops earlier at the second one whose object is still there: so the
/// list hardly grows beyond such references, and after a peak it is short again soon.
const LOOKS: usize = 32;
/// The room that a list keeps.
const SMALL: usize = 32;

/// The list itself, for one who has a lock for it.
#[derive(Debug)]
pub struct WeakVec<T: ?Sized> {
    all: Vec<Weak<T>>,
    /// Where the next look goes.
    next: usize,
}

impl<T: ?Sized> Clone for WeakVec<T> {
    fn clone(&self) -> Self {
        Self { all: self.all.clone(), next: self.next }
    }
}

impl<T: ?Sized> Default for WeakVec<T> {
    fn default() -> Self {
        Self { all: Vec::new(), next: 0 }
    }
}

impl<T: ?Sized> WeakVec<T> {
    pub fn add(&mut self, one: Weak<T>) {
        self.forget_some();
        self.all.push(one);
    }

    /// Those that are still there.
    pub fn alive(&self) -> Vec<Arc<T>> {
        self.all.iter().filter_map(Weak::upgrade).collect()
    }

    fn forget_some(&mut self) {
        let mut alive = 0;
        for _ in 0..LOOKS.min(self.all.len()) {
            if self.next >= self.all.len() {
                self.next = 0;
            }
            match self.all.get(self.next) {
                Some(one) if one.strong_count() > 0 => {
                    self.next += 1;
                    alive += 1;
                    if alive == 2 {
                        break;
                    }
                }
                Some(_) => drop(self.all.swap_remove(self.next)),
                None => break,
            }
        }
        if self.all.len() < self.all.capacity() / 4 {
            self.all.shrink_to(SMALL.max(2 * self.all.len()));
        }
    }
}

#[derive(Debug)]
pub struct WeakList<T: ?Sized>(Mutex<WeakVec<T>>);

impl<T: ?Sized> Default for WeakList<T> {
    fn default() -> Self {
        Self(Mutex::new(WeakVec::default()))
    }
}

impl<T: ?Sized> WeakList<T> {
    pub fn add(&self, one: Weak<T>) {
        lock(&self.0).add(one);
    }

    /// Those that are still there.
    pub fn alive(&self) -> Vec<Arc<T>> {
        lock(&self.0).alive()
    }

    /// Empties the list; returns those that are still there.
    pub fn take(&self) -> Vec<Arc<T>> {
        replace(&self.0, WeakVec::default()).alive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn lengths<T>(list: &WeakList<T>) -> (usize, usize) {
        let known = lock(&list.0);
        (known.all.len(), known.all.capacity())
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let list = WeakList::default();
        let kept: Vec<_> = (0..3).map(Arc::new).collect();
        for number in 0..1000 {
            list.add(Arc::downgrade(&Arc::new(number)));
        }
        kept.iter().for_each(|one| list.add(Arc::downgrade(one)));
        assert!(lengths(&list).1 < 100);
        let mut alive = list.alive();
        alive.sort();
        assert_eq!(alive, kept);
        assert_eq!(list.take().len(), 3);
        assert!(list.take().is_empty());
    }

    #[test]
    fn a_list_is_hardly_longer_than_those_that_are_there() {
        let list = WeakList::default();
        let kept: Vec<_> = (0..1000).map(Arc::new).collect();
        kept.iter().for_each(|one| list.add(Arc::downgrade(one)));
        for number in 0..10_000 {
            list.add(Arc::downgrade(&Arc::new(number)));
            assert!(lengths(&list).0 < 1600);
        }
        assert_eq!(list.take().len(), kept.len());
    }

    #[test]
    fn after_a_peak_a_list_is_soon_short_again() {
        let list = WeakList::default();
        let peak: Vec<_> = (0..100_000).map(Arc::new).collect();
        peak.iter().for_each(|one| list.add(Arc::downgrade(one)));
        drop(peak);
        for number in 0..4000 {
            list.add(Arc::downgrade(&Arc::new(number)));
        }
        let (length, capacity) = lengths(&list);
        assert!(length <= 2 && capacity <= 2 * SMALL, "{length} of {capacity}");
    }
}
