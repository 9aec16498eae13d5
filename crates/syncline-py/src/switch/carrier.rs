//! Carriers: greenlets that run the steps of tasks, kept for the next one.
//!
//! Invariants:
//! 1. A carrier at rest stands in its `Base` and holds nothing of any task, so it serves whichever comes next.
//! 2. One that anybody else refers to (SQLAlchemy's greenlets have the one that made them for a parent) is not at rest:
//!    it stays with its task.
//! 3. A carrier belongs to the thread that made it. Dropping it there ends it: greenlet throws `GreenletExit` into it.

use super::greenlets::{self, Api};
use crate::python::leaky::Leaky;
use crate::python::once::intern;
use crate::python::thread_end::Deferred;
use pyo3::Borrowed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::Arc;

/// Kept at rest in a thread, at most: each has some 20 KiB.
const MOST_AT_REST: usize = 128;

/// What a carrier carries on.
pub trait Rider: Send + Sync {
    /// Makes a step, and says whom to switch to.
    fn ride<'py>(&self, py: Python<'py>) -> PyResult<Borrowed<'static, 'py, PyAny>>;
}

pub struct Carrier {
    greenlet: Py<PyAny>,
    has_begun: Cell<bool>,
}

thread_local! {
    /// `end_all` ends them.
    static AT_REST: Leaky<Vec<Carrier>> = const { Leaky::new() };
    static END: Deferred = const { Deferred::new() };
    /// For the carrier that is switched to next.
    static HANDED_OVER: Leaky<Arc<dyn Rider>> = const { Leaky::new() };
}

/// Says whose step the carrier makes that is switched to next.
pub fn hand_over(rider: Arc<dyn Rider>) {
    drop(HANDED_OVER.with(|handed_over| handed_over.replace(Some(rider))));
}

/// Takes it back, if that could not be switched to.
pub fn take_back() {
    drop(HANDED_OVER.with(Leaky::take));
}

/// What a carrier runs, below its base frame.
#[pyclass(frozen, module = "syncline._core")]
struct Base;

impl Base {
    /// One step of a task, and whom to tell. Not inlined: a carrier at rest would keep this frame, and each switch copy it.
    #[inline(never)]
    fn turn(py: Python<'_>) -> PyResult<Borrowed<'static, '_, PyAny>> {
        let Some(rider) = HANDED_OVER.with(Leaky::take) else {
            return Err(PyRuntimeError::new_err("a greenlet of syncline's was switched to; it runs tasks only"));
        };
        rider.ride(py)
    }

    #[inline(never)]
    fn end(py: Python<'_>, api: &Api) -> PyResult<()> {
        let error = PyErr::fetch(py);
        if api.is_exit(py, &error) { Ok(()) } else { Err(error) }
    }
}

#[pymethods]
impl Base {
    #[staticmethod]
    fn run(py: Python<'_>) -> PyResult<()> {
        let api = greenlets::loaded(py)?;
        loop {
            let hub = Self::turn(py)?;
            if !api.switch_only(&hub) {
                return Self::end(py, api);
            }
        }
    }
}

impl Carrier {
    /// One at rest, or a new one.
    pub fn take(py: Python<'_>, api: &Api) -> PyResult<Self> {
        if let Some(carrier) = AT_REST.with(|at_rest| at_rest.with(|kept| kept.as_mut().and_then(Vec::pop))) {
            return Ok(carrier);
        }
        END.with(|end| end.ensure(py, end_all))?;
        Ok(Self { greenlet: api.make(py)?.unbind(), has_begun: Cell::new(false) })
    }

    pub fn greenlet<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.greenlet.bind(py)
    }

    /// What its first switch is given; none later.
    pub fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.has_begun.replace(true) {
            return Ok(None);
        }
        py.get_type::<Base>().getattr(intern!(py, "run")).map(Some)
    }

    /// By 1 and 2: gives itself back to be kept with its task.
    pub fn rest(self, py: Python<'_>, api: &Api) -> Option<Self> {
        if !self.is_ours_alone(py, api) {
            return Some(self);
        }
        if let Err(error) = api.set_context(self.greenlet.bind(py), py.None().bind(py)) {
            error.write_unraisable(py, None);
        }
        AT_REST.with(|at_rest| {
            at_rest.with(|kept| {
                let kept = kept.get_or_insert_with(Vec::new);
                if kept.len() < MOST_AT_REST {
                    kept.push(self);
                    return None;
                }
                Some(self)
            })
        })
    }

    fn is_ours_alone(&self, _py: Python<'_>, api: &Api) -> bool {
        // SAFETY: attached; the greenlet is alive.
        api.counts_are_exact && unsafe { ffi::Py_REFCNT(self.greenlet.as_ptr()) == 1 }
    }
}

/// Ends this thread's carriers that are at rest.
pub fn end_all(_py: Python<'_>) {
    END.with(Deferred::forget);
    drop(AT_REST.with(Leaky::take));
}
