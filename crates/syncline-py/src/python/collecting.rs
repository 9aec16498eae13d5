//! What our classes tell Python's collector of garbage.
//!
//! Invariants:
//! 1. The collector asks twice, and must get the same answer: a lock that is looked into is one that is taken while
//!    attached only. It is free then, or this thread has held it since before the first question. 2. What several of ours
//!    share (an `Arc`) is shown by one that has it alone: else what the others need would be taken for garbage.

use pyo3::gc::PyTraverseError;
use std::sync::TryLockError;
use syncline_core::sync::Mutex;

/// By 1: shows what lies under a lock, or nothing.
pub fn look<T>(mutex: &Mutex<T>, show: impl FnOnce(&T) -> Result<(), PyTraverseError>) -> Result<(), PyTraverseError> {
    match mutex.try_lock() {
        Ok(content) => show(&content),
        Err(TryLockError::Poisoned(content)) => show(&content.into_inner()),
        Err(TryLockError::WouldBlock) => Ok(()),
    }
}
