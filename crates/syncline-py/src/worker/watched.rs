//! What a thread calls for a task while a trace is recorded, or spans are made: the function, with a note before and
//! after it.

use crate::python::spans::{Detached, Span};
use crate::python::tracing::{self, Kind};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Begun by the task: from here on what it copies of its context has the span in it.
pub struct Watching<'py> {
    span: Span<'py>,
    trace: u64,
    id: u64,
    text: u32,
}

impl<'py> Watching<'py> {
    #[cold]
    pub fn begin(function: &Bound<'py, PyAny>, kind: &str) -> PyResult<Self> {
        let span = Span::begin(function, kind, None)?;
        let trace = tracing::number();
        if trace == 0 {
            return Ok(Self { span, trace, id: 0, text: 0 });
        }
        let (id, text) = (tracing::new_id(), tracing::function(function));
        tracing::note(trace, Kind::Sent, id, text, 0);
        Ok(Self { span, trace, id, text })
    }

    /// What is to be called in the place of `run`, once.
    pub fn wrap(self, py: Python<'py>, run: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let Self { span, trace, id, text } = self;
        let watched = WatchedRun { run, span: span.leave(py)?, trace, id, text };
        Ok(Bound::new(py, watched)?.into_any().unbind())
    }
}

/// Stands for the `run` of a context.
// No `__traverse__`: it is called once, and then forgotten.
#[pyclass(frozen, module = "syncline._core")]
pub struct WatchedRun {
    run: Py<PyAny>,
    span: Detached,
    trace: u64,
    id: u64,
    text: u32,
}

#[pymethods]
impl WatchedRun {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        tracing::note(self.trace, Kind::Job, self.id, self.text, 0);
        let result = self.run.call(py, args, kwargs);
        if self.trace != 0 {
            tracing::note(self.trace, Kind::JobEnd, self.id, self.text, tracing::outcome(py, result.as_ref()));
        }
        self.span.end(py, result)
    }
}
