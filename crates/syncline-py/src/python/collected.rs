//! The callback of a weak reference. It runs wherever an object happens to go, so what a signal handler raises in it
//! must not be lost there; and Python lets no error out of it.

use crate::python::process;
use crate::python::signals;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// Calls a function without arguments, which raises nothing by itself and may be called again.
#[pyclass(frozen, module = "syncline._core")]
pub struct Collected {
    step: Py<PyAny>,
}

#[pymethods]
impl Collected {
    #[new]
    #[pyo3(signature = (step, /))]
    fn new(step: Py<PyAny>) -> Self {
        Self { step }
    }

    #[pyo3(signature = (_reference, /))]
    fn __call__(&self, py: Python<'_>, _reference: &Bound<'_, PyAny>) -> PyResult<()> {
        if !process::is_main_thread(py) {
            return self.step.call0(py).map(drop);
        }
        let _ = signals::through(py, || self.step.call0(py));
        signals::pass_on(py);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.step)
    }
}
