//! A thread-local that may outlive its thread.
//!
//! Rust destroys thread-locals when the thread is no longer attached to the interpreter. Python objects in them can't
//! be freed then. PyO3 would put them into a list with a lock, which a fork in another thread could find taken. Or,
//! where a greenlet is still parked in the thread, PyO3 takes the thread for attached, frees them at once, and
//! crashes. So what lies here is never dropped with the thread. Whoever puts a value here takes it out again; what is
//! left is leaked.

use std::cell::RefCell;
use std::mem::ManuallyDrop;

pub struct Leaky<T>(RefCell<ManuallyDrop<Option<T>>>);

impl<T> Leaky<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(ManuallyDrop::new(None)))
    }

    /// Puts a value here; returns the one that was there.
    #[must_use]
    pub fn replace(&self, value: Option<T>) -> Option<T> {
        ManuallyDrop::into_inner(self.0.replace(ManuallyDrop::new(value)))
    }

    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.replace(None)
    }

    pub fn is_some(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Lets `look` see and change the value, which is borrowed meanwhile. So `look` must neither use this
    /// thread-local nor run Python code, which could.
    pub fn with<R>(&self, look: impl FnOnce(&mut Option<T>) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }
}

impl<T: Clone> Leaky<T> {
    pub fn cloned(&self) -> Option<T> {
        self.with(|value| value.clone())
    }
}
