//! Greenlets that are left in the middle of a step, and what can be shown of them.

use crate::python::names;
use pyo3::prelude::*;

/// A nested call in the middle of a step.
pub struct Parked {
    pub greenlet: Py<PyAny>,
    /// What it awaits, unless the layer above runs that.
    pub inner: Option<Py<PyAny>>,
}

/// One layer of a strand, as tools see it: its coroutine; and, if that is in the middle of a nested call, the greenlet
/// that is parked there, and the coroutine that the call drives, unless the layer above runs that.
pub type LayerView = (Option<Py<PyAny>>, Option<Py<PyAny>>, Option<Py<PyAny>>);

impl Parked {
    pub fn shown(&self, py: Python<'_>) -> (Py<PyAny>, Option<Py<PyAny>>) {
        (self.greenlet.clone_ref(py), self.inner.as_ref().map(|inner| inner.clone_ref(py)))
    }
}

/// `cr_frame` or `cr_await` of a stack that consists of these layers, sync code between its coroutines included.
pub fn of_stack(py: Python<'_>, layers: Vec<LayerView>, attribute: &str) -> Option<Py<PyAny>> {
    let linked = names::linked_stack(py).and_then(|linked| linked.call1((layers,)));
    linked.and_then(|linked| linked.getattr(attribute)).ok().map(Bound::unbind)
}
