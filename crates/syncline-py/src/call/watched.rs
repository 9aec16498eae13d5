//! A call that no other thread has sent, of `map` or of a group, as those see it who look at calls: a trace that is
//! recorded, and who makes spans. python/syncline/_many/watched.py tells it of each step.

use super::observed::Observed;
use crate::python::spans::{Detached, Span};
use crate::python::{recorded_names, recording};
use pyo3::prelude::*;
use syncline_core::sync::{Mutex, replace, take};

/// Whether anybody looks at calls.
#[pyfunction]
pub fn is_watched() -> bool {
    recording::is_wanted()
}

#[pyclass(frozen, module = "syncline._core")]
pub struct WatchedCall {
    function: Py<PyAny>,
    kind: String,
    observed: Option<Observed>,
    span: Mutex<Option<Detached>>,
}

#[pymethods]
impl WatchedCall {
    /// For a call of that function, which is about to begin. `kind` is what has made it.
    #[new]
    fn new(function: Bound<'_, PyAny>, kind: String) -> Self {
        let number = recording::number();
        let observed = (number != 0).then(|| Observed::made_here(number, &kind, recorded_names::function(&function)));
        Self { function: function.unbind(), kind, observed, span: Mutex::default() }
    }

    /// In the call's own context.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let span = Span::begin(self.function.bind(py), &self.kind, None)?;
        drop(replace(&self.span, Some(span.kept())));
        Ok(())
    }

    fn begin_step(&self) {
        if let Some(observed) = &self.observed {
            observed.begin_step();
        }
    }

    #[pyo3(signature = (*, suspends))]
    fn end_step(&self, suspends: bool) {
        if let Some(observed) = &self.observed {
            if suspends {
                observed.need_track();
            }
            observed.end_step();
        }
    }

    /// In the call's own context, too.
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let error = error.map(PyErr::from_value);
        if let Some(observed) = &self.observed {
            observed.end(py, error.as_ref().map_or(Ok(()), Err));
        }
        let Some(span) = take(&self.span) else { return Ok(()) };
        let result = error.map_or(Ok(()), Err);
        let raised = result.as_ref().err().map(|error| error.clone_ref(py));
        match (span.end(py, result), raised) {
            (Err(error), Some(raised)) if error.value(py).is(raised.value(py)) => Ok(()),
            (ended, _) => ended,
        }
    }
}
