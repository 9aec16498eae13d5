//! Telling Python code that a loop is gone, with what it has not ended: whoever waits for that in another thread sees
//! nothing of the kind.

use super::inbox::{self, Health, Inbox};
use crate::python::signals;
use crate::runner::arrival::Arrival;
use crate::switch::nest::{self, Driving};
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
    /// Of a loop that somebody else runs. One of ours is never left standing: a caller's own goes on with its thread's next
    /// call.
    of_others: Option<Arc<Inbox>>,
}

#[pymethods]
impl LoopEnd {
    #[new]
    #[pyo3(signature = (tell, /))]
    fn new(py: Python<'_>, tell: Py<PyAny>) -> PyResult<Self> {
        let told = Arc::new(WhenGone(tell));
        let known: Weak<WhenGone> = Arc::downgrade(&told);
        let inbox = inbox::here(py, false)?;
        inbox.tell_of_end(known);
        let of_others = (nest::driving() == Driving::Foreign).then_some(inbox);
        Ok(Self { _told: told, of_others })
    }

    /// Whether the loop is somebody else's, who may stop it and leave it so.
    #[getter]
    fn is_of_others(&self) -> bool {
        self.of_others.is_some()
    }

    /// Whether nobody runs such a loop at the moment, and it is open.
    fn stands(&self, py: Python<'_>) -> bool {
        let health = self.of_others.as_ref().map(|inbox| signals::through(py, || inbox.health(py)));
        health.flatten() == Some(Health::Stands)
    }
}
