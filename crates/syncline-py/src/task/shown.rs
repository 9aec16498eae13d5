//! What tools are shown of a session.

use super::execution::Execution;
use crate::python::once::intern;
use crate::switch::parked::LayerView;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use std::sync::Arc;

/// The native async generator whose steps the session makes, while it is there.
pub fn generator<'py>(py: Python<'py>, known: Option<&Py<PyWeakrefReference>>) -> Option<Bound<'py, PyAny>> {
    known.and_then(|generator| generator.bind(py).upgrade())
}

/// As `Strand::layers`.
pub fn layers(
    py: Python<'_>,
    known: Option<&Py<PyWeakrefReference>>,
    current: Option<Arc<Execution>>,
) -> Vec<LayerView> {
    let mut layers = current.map_or_else(Vec::new, |execution| execution.layers(py));
    // What makes a step of a native async generator, or fetches its items ahead, shows neither frames nor whether it
    // runs. The generator does.
    if let [(coroutine, None, _)] = &mut layers[..]
        && let Some(generator) = generator(py, known)
    {
        *coroutine = Some(generator.unbind());
    }
    layers
}

/// The name of what the present step is a part of.
pub fn name(
    py: Python<'_>,
    known: Option<&Py<PyWeakrefReference>>,
    current: Option<Arc<Execution>>,
) -> Option<Py<PyAny>> {
    match generator(py, known) {
        Some(generator) => generator.getattr(intern!(py, "__qualname__")).ok().map(Bound::unbind),
        None => current.and_then(|execution| execution.name(py)),
    }
}
