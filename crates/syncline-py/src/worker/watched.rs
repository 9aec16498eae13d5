//! A function that a thread calls for a task, as those see it who look at calls: a trace that is recorded, and who makes
//! spans.

use crate::call::outcome::cancelled_error;
use crate::python::errors;
use crate::python::spans::{Detached, Span};
use crate::python::{recorded_names, recording, tracing};
use pyo3::prelude::*;
use syncline_core::trace_events::Kind;

/// Begun by the task before it copies its context, so that the copy has the span in it.
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
        let trace = recording::number();
        if trace == 0 {
            return Ok(Self { span, trace, id: 0, text: 0 });
        }
        let (id, text) = tracing::ask(trace, function);
        Ok(Self { span, trace, id, text })
    }

    /// For the thread that calls the function.
    pub fn handed_over(self, py: Python<'py>) -> PyResult<WorkWatch> {
        let Self { span, trace, id, text } = self;
        Ok(WorkWatch { span: Some(span.leave(py)?), trace, id, text })
    }
}

pub struct WorkWatch {
    /// Until it has ended.
    span: Option<Detached>,
    trace: u64,
    id: u64,
    text: u32,
}

impl WorkWatch {
    /// The function is called now.
    pub fn begin(&self) {
        tracing::note(self.trace, Kind::Job, self.id, self.text, 0);
    }

    /// It has returned, or raised.
    pub fn end<T>(mut self, py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
        if self.trace != 0 {
            tracing::note(self.trace, Kind::JobEnd, self.id, self.text, recorded_names::outcome(py, result.as_ref()));
        }
        match self.span.take() {
            Some(span) => span.end(py, result),
            None => result,
        }
    }
}

impl Drop for WorkWatch {
    fn drop(&mut self) {
        // Not called: the task was cancelled before.
        if let Some(span) = self.span.take() {
            errors::in_destructor(|py| span.end_uncalled(py, cancelled_error));
        }
    }
}
