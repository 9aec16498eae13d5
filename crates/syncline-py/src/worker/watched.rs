//! What a thread calls for a task while a trace is recorded, or spans are made: the function, with a note before and
//! after it.

use crate::call::outcome::cancelled_error;
use crate::python::errors;
use crate::python::spans::{Detached, Span};
use crate::python::tracing::{self, Kind};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use syncline_core::sync::{Mutex, take};

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
        let watched = WatchedRun { run, span: Mutex::new(Some(span.leave(py)?)), trace, id, text };
        Ok(Bound::new(py, watched)?.into_any().unbind())
    }
}

/// Stands for the `run` of a context.
// No `__traverse__`: it is called once, and then forgotten.
#[pyclass(frozen, module = "syncline._core")]
pub struct WatchedRun {
    run: Py<PyAny>,
    span: Mutex<Option<Detached>>,
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
        match take(&self.span) {
            Some(span) => span.end(py, result),
            None => result,
        }
    }
}

impl Drop for WatchedRun {
    fn drop(&mut self) {
        // Not called: the task was cancelled before.
        if let Some(span) = take(&self.span) {
            errors::in_destructor(|py| span.end_uncalled(py, cancelled_error));
        }
    }
}
