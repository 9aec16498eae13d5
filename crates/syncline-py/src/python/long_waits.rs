//! Waits that have gone on for a while, for those that search for deadlocks and report stalls.
//!
//! Invariants:
//! 1. The list is only ever locked while attached: what Python code reads there holds until it lets others run.

use crate::python::names;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};

static ALL: Mutex<Vec<(u64, u64, u64)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A wait: its number, the thread that waits, and that of the loop which it waits for. Made and dropped attached.
pub struct LongWait {
    pub number: u64,
    waiter: u64,
    loop_thread: u64,
}

impl LongWait {
    pub fn begin(py: Python<'_>, loop_thread: u64) -> PyResult<Self> {
        let waiter = names::get_ident(py)?.call0()?.extract()?;
        let wait = Self { number: NEXT.fetch_add(1, Relaxed), waiter, loop_thread };
        lock(&ALL).push((wait.number, waiter, loop_thread));
        Ok(wait)
    }

    /// Why the loop's thread can't go on before the waiting one does, if that is so.
    pub fn is_blocked(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let look = py.import("syncline._diagnosis")?.getattr("blocked_on_lock")?;
        look.call1((self.loop_thread, self.waiter))?.extract()
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        lock(&ALL).retain(|(number, ..)| *number != self.number);
    }
}

/// In a forked child nobody waits yet.
pub fn forget_all(_py: Python<'_>) {
    lock(&ALL).clear();
}

/// Maps each thread that has waited for a while to its wait's number and the thread of the loop that it waits for.
#[pyfunction]
pub fn long_waits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let waits = PyDict::new(py);
    let all = lock(&ALL).clone();
    for (number, waiter, loop_thread) in all {
        waits.set_item(waiter, (number, loop_thread))?;
    }
    Ok(waits)
}
