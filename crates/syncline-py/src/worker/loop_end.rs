//! Telling Python code that a loop is gone, with what it has not ended: whoever waits for that in another thread sees
//! nothing of the kind.

use super::inbox;
use crate::python::signals;
use crate::runner::arrival::Arrival;
use pyo3::prelude::*;
use std::sync::{Arc, Weak};

struct WhenGone(Py<PyAny>);

impl Arrival for WhenGone {
    fn arrive(&self, _py: Python<'_>) {}

    fn be_lost(&self, py: Python<'_>) {
        signals::through(py, || self.0.call0(py));
        signals::pass_on(py);
    }
}

/// As long as it lives, `tell` is called once the asyncio loop that runs here now is closed, by whichever thread. It
/// raises nothing, may be called again, and must not refer to whoever has this object: the collector sees nothing of it.
#[pyclass(frozen, module = "syncline._core")]
pub struct LoopEnd {
    _told: Arc<WhenGone>,
}

#[pymethods]
impl LoopEnd {
    #[new]
    #[pyo3(signature = (tell, /))]
    fn new(py: Python<'_>, tell: Py<PyAny>) -> PyResult<Self> {
        let told = Arc::new(WhenGone(tell));
        let known: Weak<WhenGone> = Arc::downgrade(&told);
        inbox::here(py, false)?.tell_of_end(known);
        Ok(Self { _told: told })
    }
}
