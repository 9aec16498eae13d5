//! What our classes show Python's garbage collector (in `__traverse__`).
//!
//! Invariants:
//! 1. The collector asks an object twice, and must get the same answer. So what lies under a lock is shown only if
//!    that lock is taken by attached threads only: then no other thread takes or releases it in between.
//! 2. What several owners share (in an `Arc`) is shown only where there is one owner. The collector counts
//!    references: if it were shown the same one by several owners, it would take the object for garbage while others
//!    still need it.

use pyo3::gc::PyTraverseError;
use std::sync::TryLockError;
use syncline_core::sync::Mutex;

/// Shows what lies under a lock, for `show`; or nothing, if this thread holds the lock (see 1).
pub fn look<T>(mutex: &Mutex<T>, show: impl FnOnce(&T) -> Result<(), PyTraverseError>) -> Result<(), PyTraverseError> {
    match mutex.try_lock() {
        Ok(content) => show(&content),
        Err(TryLockError::Poisoned(content)) => show(&content.into_inner()),
        Err(TryLockError::WouldBlock) => Ok(()),
    }
}
