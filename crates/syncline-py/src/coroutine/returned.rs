//! What a task drives where there is nothing to await: a sync function was called on the loop, and this has its result.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use syncline_core::sync::{Mutex, take};

/// An iterator whose first step is its last, and returns the result.
// No `__traverse__`: it is made and driven in one step.
#[pyclass(frozen, module = "syncline._core")]
pub struct Returned(Mutex<Option<Py<PyAny>>>);

#[pymethods]
impl Returned {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((take(&self.0),)))
    }
}

impl Returned {
    pub fn new(value: Py<PyAny>) -> Self {
        Self(Mutex::new(Some(value)))
    }
}
