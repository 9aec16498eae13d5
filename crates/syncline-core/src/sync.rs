//! The one place that names `std`'s or loom's primitives, so that loom can take their place under `--cfg loom`.

// Never loom's: methods can't take `self` as an `Arc` of loom's, and all it would add is a search for leaks.
pub use std::sync::Arc;

#[cfg(loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};

/// Locks, also after a panic under this lock: none of our critical sections can leave its data half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Puts a value in the place of another, and returns that one: so it is not dropped under the lock.
#[must_use = "what was there is to be dropped where that may run code of others"]
pub fn replace<T>(mutex: &Mutex<T>, value: T) -> T {
    std::mem::replace(&mut *lock(mutex), value)
}

/// Takes what is there, and leaves the type's default.
#[must_use = "what was there is to be dropped where that may run code of others"]
pub fn take<T: Default>(mutex: &Mutex<T>) -> T {
    replace(mutex, T::default())
}
