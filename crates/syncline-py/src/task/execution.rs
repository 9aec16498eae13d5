//! What one call runs on its loop, step by step.
//!
//! Tasks see two kinds of coroutines of ours: bridged.rs for one call, session.rs for many steps. Both drive the user's
//! coroutine through this, and so learn of its end in the very step in which it ends.

use crate::call::outcome::{Outcome, explain_loop_mixup, is_cancelled, without_trio_cancelled};
use crate::call::state::Call;
use crate::call::stepping::stepping;
use crate::coroutine::driven::{Driven, Thrown};
use crate::coroutine::target::Target;
use crate::python::context::Entered;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::recorded_names;
use crate::switch::kinds::StrandId;
use crate::switch::nest;
use crate::switch::parked::LayerView;
use crate::switch::stepper::Owner;
use crate::switch::strand::{self, Strand};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, replace, take};

pub enum Step {
    /// For the task: what it has to wait for.
    Awaits(Py<PyAny>),
    Ended(Outcome),
}

/// Makes a step outside of the task's own turns, as if it were one.
pub fn as_the_task<T>(
    event_loop: &Bound<'_, PyAny>,
    task: &Bound<'_, PyAny>,
    context: &Py<PyAny>,
    step: impl FnOnce() -> T,
) -> PyResult<T> {
    let py = task.py();
    names::enter_task(py)?.call1((event_loop, task))?;
    let entered = Entered::new(context.bind(py));
    let step = entered.map(|entered| {
        let step = step();
        drop(entered);
        step
    });
    names::leave_task(py)?.call1((event_loop, task))?;
    step
}

pub struct Execution {
    pub call: Arc<Call>,
    strand: Arc<Strand>,
    /// Whether steps are made in the strand's greenlets, so that nested calls can await in place.
    nests: AtomicBool,
    /// What the task was told to wait for. If that belongs to a wrong loop, the error is explained by it.
    awaited: Mutex<Option<Py<PyAny>>>,
}

impl Execution {
    /// Made on the loop's thread, whose loop decides whether steps are made in greenlets.
    pub fn new(call: Arc<Call>, target: Target, owner: Owner) -> Self {
        let nests = AtomicBool::new(nest::strands_here());
        if let Some(observed) = call.observed() {
            observed.name(|| Python::attach(|py| recorded_names::function(target.object(py))));
        }
        Self { call, strand: Strand::new(Driven::new(target), owner), nests, awaited: Mutex::new(None) }
    }

    pub fn nests(&self) -> bool {
        self.nests.load(Relaxed)
    }

    /// Whether this step is made in the strand. An execution that began without its strand takes to it when a step
    /// finds the thread in a strand of somebody else's. That one may be parked in the middle of this step, and what
    /// `stepping` has set in thread-locals would stay set meanwhile; a hub of our own puts it back first.
    fn steps_in_strand(&self) -> bool {
        if !self.nests() && strand::is_active() {
            self.nests.store(true, Relaxed);
        }
        self.nests()
    }

    /// Whether a nested call is suspended in it.
    pub fn is_nested(&self) -> bool {
        self.strand.is_nested()
    }

    pub fn runs_in(&self, strand: StrandId) -> bool {
        self.nests() && self.strand.id() == strand
    }

    /// Whether the user's code has begun. A sync function may be parked in a nested call before there is any coroutine.
    pub fn has_begun(&self, py: Python<'_>) -> bool {
        self.inner(py).is_some() || self.is_nested()
    }

    pub fn inner<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.strand.source.inner(py)
    }

    pub fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.strand.source.name(py)
    }

    /// What it consists of, outermost first, while it is suspended: each layer's coroutine and, if that is in the
    /// middle of a nested call, the greenlet that is parked there and what the nested call drives.
    pub fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        self.strand.layers(py)
    }

    pub fn send(&self, value: &Bound<'_, PyAny>) -> Step {
        let stepped = stepping(value.py(), &self.call, || {
            if self.steps_in_strand() { self.strand.send(value) } else { self.strand.source.send(value) }
        });
        self.after(value.py(), stepped)
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
            // asyncio's "attached to a different loop" shows one loop, by its address. A note names both.
            explain_loop_mixup(kind, awaited.as_ref().map(|awaited| awaited.bind(py)));
        }
        if !self.has_begun(py) {
            // Cancelled before its first step: the user's function is never called.
            self.strand.source.discard(py);
            return self.end(Outcome::Raised(PyErr::from_value(kind.clone())));
        }
        let thrown = Thrown::new(kind, value, traceback);
        let stepped = stepping(py, &self.call, || {
            if self.steps_in_strand() { self.strand.throw(py, thrown) } else { self.strand.source.throw(py, thrown) }
        });
        self.after(py, stepped)
    }

    fn after(&self, py: Python<'_>, stepped: PyResult<PySendResult<'_>>) -> Step {
        match stepped {
            Ok(PySendResult::Next(awaited)) => self.suspend(awaited),
            Ok(PySendResult::Return(value)) => self.end(Outcome::Returned(value.unbind())),
            Err(error) => {
                // It may not have begun: late in the exit there are no greenlets any more.
                self.strand.source.discard(py);
                self.end(Outcome::Raised(without_trio_cancelled(py, error)))
            }
        }
    }

    /// Ends what runs by `GeneratorExit`, and settles the call.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.strand.source.discard(py);
        let closed = match self.inner(py) {
            _ if self.is_nested() => self.strand.close(py),
            Some(inner) => inner.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        self.call.settle(py, Outcome::Raised(errors::closed_meanwhile(py, &self.call.runner_name())));
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
        self.strand.abandon();
    }
}
