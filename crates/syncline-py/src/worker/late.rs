//! What comes for a runner's loop while that ends. The mailbox is closed by then, but tasks may wait for it in their
//! cleanup. So it goes by `call_soon_threadsafe`.
//!
//! Invariants:
//! 1. Either the loop calls back, and it arrives; or the loop is closed first, and it is told that it is lost. Whoever
//!    waits for it is told in both cases.

use crate::python::errors;
use crate::python::once::intern;
use crate::python::process;
use crate::runner::arrival::Arrival;
use crate::runner::state::Runner;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, take};

/// The callback that the loop makes for one arrival.
#[pyclass(frozen, module = "syncline._core")]
struct Late(Mutex<Option<Arc<dyn Arrival>>>);

#[pymethods]
impl Late {
    fn __call__(&self, py: Python<'_>) {
        let _inside = process::step_inside_unless_left(py);
        if let Some(arrival) = take(&self.0) {
            arrival.arrive(py);
        }
    }

    fn __repr__(&self) -> &'static str {
        "<a result of another thread, for this loop>"
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // Not called before: the loop is closed (by 1).
        if let Some(arrival) = take(&self.0) {
            errors::in_destructor(|py| arrival.be_lost(py));
        }
    }
}

pub fn bring(py: Python<'_>, runner: &Runner, arrival: Arc<dyn Arrival>) {
    let Some(event_loop) = runner.event_loop(py) else { return arrival.be_lost(py) };
    let scheduled = Bound::new(py, Late(Mutex::new(Some(arrival))))
        .and_then(|late| event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (late,)));
    // If the loop is closed already, the callback has been dropped by now, and has told the arrival (by 1).
    drop(scheduled);
}
