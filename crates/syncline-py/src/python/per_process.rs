//! What each process has for itself, and a lock around it.
//!
//! A fork that Python hears nothing of (C code makes it) may come while another thread holds the lock, which nobody releases
//! in the child. So a child does not even look at what its parent had.

use super::process;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use syncline_core::sync::Mutex;

struct Cell<T> {
    epoch: u32,
    value: Mutex<T>,
}

/// Never freed: it is made once in a process.
pub struct PerProcess<T: 'static>(AtomicPtr<Cell<T>>);

impl<T: Send> PerProcess<T> {
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    fn known(&self) -> Option<&'static Cell<T>> {
        // SAFETY: null, or from `Box::leak` below.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    /// This process's own; `make` makes it, and gets what the parent had, which is never freed. It must not wait for that.
    pub fn get(&self, make: impl FnOnce(Option<&Mutex<T>>) -> T) -> &'static Mutex<T> {
        let epoch = process::epoch();
        if let Some(known) = self.known().filter(|known| known.epoch == epoch) {
            return &known.value;
        }
        let before = self.0.load(Acquire);
        let value = make(self.known().map(|parents| &parents.value));
        let made = Box::leak(Box::new(Cell { epoch, value: Mutex::new(value) }));
        match self.0.compare_exchange(before, made, AcqRel, Acquire) {
            Ok(_) => &made.value,
            // Another thread was faster.
            Err(_) => self.known().map_or(&made.value, |known| &known.value),
        }
    }
}
