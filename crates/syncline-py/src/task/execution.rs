//! What one call runs on its loop, step by step.
//!
//! Both coroutines that a loop's tasks see (that of one call, and that of a session) drive the user's through this, and
//! know its end in the very step in which it ends. A done callback would run one loop iteration later.

use crate::call::outcome::{Outcome, explain_loop_mixup, is_cancelled};
use crate::call::state::Call;
use crate::call::stepping::stepping;
use crate::coroutine::driven::{Driven, Thrown};
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::once::intern;
use crate::switch::kinds::StrandId;
use crate::switch::nest;
use crate::switch::strand::{Owner, Strand};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use std::sync::Arc;
use syncline_core::sync::{Mutex, replace, take};

pub enum Step {
    /// For the task: what it has to wait for.
    Awaits(Py<PyAny>),
    Ended(Outcome),
}

/// How steps are made.
enum Way {
    Direct(Driven),
    /// In greenlets, so that nested calls can await in place.
    Strand(Arc<Strand>),
}

pub struct Execution {
    pub call: Arc<Call>,
    way: Way,
    /// What the task was told to wait for: a wrong loop is explained by it.
    awaited: Mutex<Option<Py<PyAny>>>,
}

impl Execution {
    /// For the loop's thread.
    pub fn new(call: Arc<Call>, target: Target, owner: Owner) -> Self {
        let source = Driven::new(target);
        let way = if nest::strands_here() { Way::Strand(Strand::new(source, owner)) } else { Way::Direct(source) };
        Self { call, way, awaited: Mutex::new(None) }
    }

    /// Whether a nested call is suspended in it.
    pub fn is_nested(&self) -> bool {
        matches!(&self.way, Way::Strand(strand) if strand.is_nested())
    }

    pub fn runs_in(&self, strand: StrandId) -> bool {
        matches!(&self.way, Way::Strand(ours) if ours.id() == strand)
    }

    fn source(&self) -> &Driven {
        match &self.way {
            Way::Direct(source) => source,
            Way::Strand(strand) => &strand.source,
        }
    }

    pub fn inner<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.source().inner(py)
    }

    pub fn send(&self, value: &Bound<'_, PyAny>) -> Step {
        let stepped = stepping(value.py(), &self.call, || match &self.way {
            Way::Strand(strand) => strand.send(value),
            Way::Direct(source) => source.send(value),
        });
        self.after(stepped)
    }

    pub fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> Step {
        let py = kind.py();
        if is_cancelled(py, &PyErr::from_value(kind.clone())) {
            self.call.note_cancelled();
        }
        let awaited = take(&self.awaited);
        if kind.is_instance_of::<PyRuntimeError>() {
            // "attached to a different loop" names one of the loops, by its address: a note names both.
            explain_loop_mixup(kind, awaited.as_ref().map(|awaited| awaited.bind(py)));
        }
        if self.inner(py).is_none() {
            // Cancelled before its first step: what never began is never called.
            self.source().discard(py);
            return self.end(Outcome::Raised(PyErr::from_value(kind.clone())));
        }
        let thrown = Thrown::new(kind, value, traceback);
        let stepped = stepping(py, &self.call, || match &self.way {
            Way::Strand(strand) => strand.throw(py, thrown),
            Way::Direct(source) => source.throw(py, thrown),
        });
        self.after(stepped)
    }

    fn after(&self, stepped: PyResult<PySendResult<'_>>) -> Step {
        match stepped {
            Ok(PySendResult::Next(awaited)) => self.suspend(awaited),
            Ok(PySendResult::Return(value)) => self.end(Outcome::Returned(value.unbind())),
            Err(error) => self.end(Outcome::Raised(error)),
        }
    }

    /// Ends what runs by `GeneratorExit`, and settles the call.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.source().discard(py);
        let closed = match (self.inner(py), &self.way) {
            (Some(_), Way::Strand(strand)) if strand.is_nested() => strand.close(py),
            (Some(inner), _) => inner.call_method0(intern!(py, "close")).map(drop),
            (None, _) => Ok(()),
        };
        self.call.settle(py, Outcome::Raised(errors::closed_meanwhile(py, self.call.runner_name())));
        closed
    }

    fn suspend(&self, awaited: Bound<'_, PyAny>) -> Step {
        drop(replace(&self.awaited, Some(awaited.clone().unbind())));
        Step::Awaits(awaited.unbind())
    }

    fn end(&self, outcome: Outcome) -> Step {
        drop(take(&self.awaited));
        Step::Ended(outcome)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if let Way::Strand(strand) = &self.way {
            strand.abandon();
        }
    }
}
