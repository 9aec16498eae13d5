//! A call as its caller counts it, and what the caller comes back with.

use pyo3::prelude::*;
use syncline_core::stats::Stats;

/// Counts a call as ended in its bridge's counters when it is dropped.
pub struct UnderWay<'a>(pub &'a Stats);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ended.add(1);
    }
}

/// What a caller comes back with from its wait.
pub struct Heard {
    pub result: PyResult<Py<PyAny>>,
    /// Whether the call has ended. If not, its caller goes on without it.
    pub has_ended: bool,
}

impl Heard {
    /// For a call that was not begun.
    pub fn refused(error: PyErr) -> Self {
        Self { result: Err(error), has_ended: true }
    }
}
