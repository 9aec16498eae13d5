//! A value behind a lock, of which each process has its own.
//!
//! C code may fork without Python knowing of it, while another thread holds the lock. Nobody releases that lock in the
//! child. So a child makes a value and a lock of its own.

use super::process;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use syncline_core::sync::{Mutex, lock};

struct Cell<T> {
    epoch: u32,
    value: Mutex<T>,
}

/// What it points to is never freed. It is made once in a process.
pub struct PerProcess<T: 'static>(AtomicPtr<Cell<T>>);

impl<T: Send> PerProcess<T> {
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    fn known(&self) -> Option<&'static Cell<T>> {
        // SAFETY: null, or from `Box::leak` below.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    /// This process's own value. If there is none yet, `make` makes it; it is given the parent's, which is never
    /// freed, and must not wait for that lock.
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

/// For `PerProcess::get`: a forked child begins with what its parent has; with nothing, if another thread held the
/// lock.
pub fn inherited<T: Clone + Default>(parents: Option<&Mutex<T>>) -> T {
    parents.and_then(|parents| parents.try_lock().ok()).map(|parents| parents.clone()).unwrap_or_default()
}

/// As `PerProcess`, for a value that is a part of an object, and goes with it.
pub struct PerProcessPart<T>(Mutex<(u32, Arc<T>)>);

impl<T> PerProcessPart<T> {
    pub fn new(value: Arc<T>) -> Self {
        Self(Mutex::new((process::epoch(), value)))
    }

    /// This process's own value. A forked child makes it by `make`, which is given the parent's; that is never freed
    /// there.
    pub fn get(&self, make: impl FnOnce(&T) -> Arc<T>) -> Arc<T> {
        let mut known = lock(&self.0);
        if known.0 != process::epoch() {
            let made = make(&known.1);
            std::mem::forget(std::mem::replace(&mut *known, (process::epoch(), made)));
        }
        Arc::clone(&known.1)
    }
}
