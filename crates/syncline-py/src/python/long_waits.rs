//! The list of waits that have gone on for a while, for the code that searches for deadlocks and reports stalls.
//!
//! Invariants:
//! 1. The list is locked only while attached. So what Python code reads there stays true until another thread runs.

use crate::python::names;
use crate::python::per_process::PerProcess;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{MutexGuard, lock};

/// Of each wait: its number, the waiting thread, the loop's thread. A forked child begins with an empty list.
static ALL: PerProcess<Vec<(u64, u64, u64)>> = PerProcess::new();
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A wait: its number, the thread that waits, and that of the loop which it waits for. Made and dropped attached.
pub struct LongWait {
    pub number: u64,
    waiter: u64,
    loop_thread: u64,
}

impl LongWait {
    pub fn begin(py: Python<'_>, loop_thread: u64) -> PyResult<Self> {
        let waiter = names::thread_ident(py)?;
        let wait = Self { number: NEXT.fetch_add(1, Relaxed), waiter, loop_thread };
        all().push((wait.number, waiter, loop_thread));
        Ok(wait)
    }

    /// If the loop's thread can't go on before the waiting one does, says why.
    pub fn is_blocked(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let look = py.import("syncline._diagnosis")?.getattr("blocked_on_lock")?;
        look.call1((self.loop_thread, self.waiter))?.extract()
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        all().retain(|(number, ..)| *number != self.number);
    }
}

fn all() -> MutexGuard<'static, Vec<(u64, u64, u64)>> {
    lock(ALL.get(|_| Vec::new()))
}

/// Maps each thread that has waited for a while to its wait's number and the thread of the loop that it waits for.
#[pyfunction]
pub fn long_waits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let waits = PyDict::new(py);
    let all = all().clone();
    for (number, waiter, loop_thread) in all {
        waits.set_item(waiter, (number, loop_thread))?;
    }
    Ok(waits)
}
