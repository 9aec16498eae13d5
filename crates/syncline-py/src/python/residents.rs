//! The loops that live in this process, as fork, exit and reports see them: runners' and threads' own.
//!
//! Invariants:
//! 1. The list is locked only while attached, and for no longer than a look takes: no other thread holds it at a fork, and
//!    nothing is dropped under it.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, Weak};
use std::time::Duration;
use syncline_core::latch::Latch;
use syncline_core::sync::{Mutex, lock, replace};

/// A loop of ours.
pub trait Resident: Send + Sync {
    /// What messages call the loop.
    fn description(&self) -> String;
    /// The scope that it serves, as a bridge calls it.
    fn scope(&self) -> &'static str;
    /// The loop, while there is one.
    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>>;
    /// The identifier of the thread that does nothing but run it, if there is one.
    fn own_thread(&self) -> Option<u64>;
    /// How long its tasks may clean up.
    fn cleanup(&self) -> Duration;
    /// Opens when it has ended.
    fn ended(&self) -> &Latch;
    /// Whether its thread still makes its last steps.
    fn is_about_to_end(&self, py: Python<'_>) -> bool;
    /// Tells it to end, without waiting, as the process exits.
    fn begin_exit(self: Arc<Self>, py: Python<'_>);
    /// Tells those who wait for futures of what it runs that they wait in vain.
    fn free_waiters(&self, py: Python<'_>);

    fn has_ended(&self) -> bool {
        self.ended().is_open()
    }
}

static ALL: Mutex<Vec<Weak<dyn Resident>>> = Mutex::new(Vec::new());

/// Adds a loop to those that end with the process.
pub fn remember(resident: Weak<dyn Resident>, _py: Python<'_>) {
    let mut all = lock(&ALL);
    // What a weak reference frees is memory only.
    all.retain(|known| known.strong_count() > 0);
    all.push(resident);
}

/// Those of this process that have not ended.
pub fn alive(_py: Python<'_>) -> Vec<Arc<dyn Resident>> {
    let known = lock(&ALL).clone();
    known.iter().filter_map(Weak::upgrade).filter(|resident| !resident.has_ended()).collect()
}

/// In a forked child: the parent's loops are left alone, and not even freed.
pub fn leave_all(_py: Python<'_>) {
    for resident in replace(&ALL, Vec::new()).iter().filter_map(Weak::upgrade) {
        std::mem::forget(resident);
    }
}

/// Maps `id(loop)` to words for it and its scope, for every loop.
pub fn loop_owners(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let owners = PyDict::new(py);
    for resident in alive(py) {
        if let Some(event_loop) = resident.event_loop(py) {
            owners.set_item(event_loop.as_ptr() as usize, (resident.description(), resident.scope()))?;
        }
    }
    Ok(owners)
}
