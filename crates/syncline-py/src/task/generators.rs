//! The async generators that a loop knows, to close them at its end.
//!
//! asyncio keeps them in a `weakref.WeakSet`, which forgets a generator by Python code. That runs where the generator
//! is freed: in the thread of sync code that has iterated over it. If this is the main one, a signal handler may run
//! just there, and what it raises is lost, as in any callback of a weak reference: a Ctrl-C would do nothing. Here no
//! Python code runs.

use super::loops::BridgeLoop;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySet, PyWeakrefMethods, PyWeakrefReference};

/// As much of a `WeakSet` as asyncio uses.
// No `__traverse__`: it refers to a set of weak references, and nothing in there to it.
#[pyclass(frozen, module = "syncline._core")]
struct Generators {
    references: Py<PySet>,
}

#[pymethods]
impl Generators {
    fn add(&self, generator: &Bound<'_, PyAny>) -> PyResult<()> {
        let references = self.references.bind(generator.py());
        let forget = references.getattr(intern!(generator.py(), "discard"))?;
        references.add(PyWeakrefReference::new_with(generator, forget)?)
    }

    fn discard(&self, generator: &Bound<'_, PyAny>) -> PyResult<()> {
        self.references.bind(generator.py()).discard(PyWeakrefReference::new(generator)?).map(drop)
    }

    fn clear(&self, py: Python<'_>) {
        self.references.bind(py).clear();
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.references.bind(py).len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // A copy first, which no other code comes in between: generators may be freed meanwhile.
        let references = py.get_type::<PyList>().call1((&self.references,))?.cast_into::<PyList>()?;
        let alive = references.iter().filter_map(|reference| reference.cast::<PyWeakrefReference>().ok()?.upgrade());
        PyList::new(py, alive.collect::<Vec<_>>())?.into_any().try_iter().map(Bound::into_any)
    }
}

/// Has a loop of ours keep its generators so. Nothing is changed where asyncio does not keep them in that place.
pub fn keep(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, place) = (event_loop.py(), intern!(event_loop.py(), "_asyncgens"));
    if !event_loop.is_instance_of::<BridgeLoop>() || !event_loop.hasattr(place)? {
        return Ok(());
    }
    event_loop.setattr(place, Py::new(py, Generators { references: PySet::empty(py)?.unbind() })?)
}
