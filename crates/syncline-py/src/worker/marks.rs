//! What a thread can ask of itself: whether it is a worker.

use super::{work, workers};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Whether this is a worker thread: one of `to_thread`, or one marked as such.
#[pyfunction]
pub fn in_worker_thread() -> bool {
    workers::is_marked() || work::current().is_some()
}

/// Makes this thread count as a worker thread until it ends; see `in_worker_thread`.
#[pyfunction]
pub fn mark_as_worker_thread() {
    workers::mark(true);
}

struct Marked(bool);

impl Drop for Marked {
    fn drop(&mut self) {
        workers::mark(self.0);
    }
}

/// Calls `fn` in this thread, which counts as a worker thread meanwhile; returns its result.
#[pyfunction]
#[pyo3(signature = (r#fn, /, *args, **kwargs))]
pub fn call_with_mark<'py>(
    r#fn: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let _marked = Marked(workers::mark(true));
    r#fn.call(args, kwargs)
}

/// How many worker threads there are, and how many of them are idle.
#[pyfunction]
pub fn worker_counts() -> (usize, usize) {
    workers::counts()
}
