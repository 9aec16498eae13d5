//! The one place that names `std`'s or loom's primitives, so that loom can take their place under `--cfg loom`.

// Never loom's: `self` can't be one of its, and all it would add is a search for leaks.
pub use std::sync::Arc;

#[cfg(loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};

/// Locks, whatever a panic elsewhere did: none of our critical sections can leave its data half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Puts a value in the place of another, which is given out: nothing is dropped under a lock of ours.
#[must_use = "what was there is to be dropped where that may run code of others"]
pub fn replace<T>(mutex: &Mutex<T>, value: T) -> T {
    std::mem::replace(&mut *lock(mutex), value)
}

/// Takes what is there, and leaves nothing.
#[must_use = "what was there is to be dropped where that may run code of others"]
pub fn take<T: Default>(mutex: &Mutex<T>) -> T {
    replace(mutex, T::default())
}
