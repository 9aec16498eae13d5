//! A worker thread of one's own: all calls made through it run in that thread, one after the other.

use super::awaiting::Pending;
use super::limiter::in_worker;
use super::limits::Limits;
use super::notice::Notice;
use super::workers::{self, Payload, WorkerJob, Works};
use crate::call::outcome::{Outcome, is_no_news};
use crate::call::waiter;
use crate::python::context;
use crate::python::log;
use crate::python::once::intern;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use syncline_core::sync::{Mutex, take};

/// The core of `syncline.Worker`.
// No `__traverse__`: it refers to Python objects only while their calls are under way.
#[pyclass(frozen, subclass, weakref, module = "syncline._core")]
pub struct OwnThread {
    limits: Arc<Limits>,
    closed: AtomicBool,
}

#[pymethods]
impl OwnThread {
    #[new]
    fn new() -> Self {
        Self { limits: Limits::of_one_thread(), closed: AtomicBool::new(false) }
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// The call of `fn` in the thread, as an awaitable.
    #[pyo3(signature = (r#fn, args, kwargs))]
    fn _call(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Pending> {
        if self.closed() {
            return Err(PyRuntimeError::new_err("this worker is closed; make a new one: syncline.Worker()"));
        }
        in_worker(&self.limits, r#fn, args, kwargs)
    }

    /// Has the thread call `fn` after all that it was asked for before; nobody waits for that.
    fn _send(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(pool) = self.limits.own_pool() else { return Ok(()) };
        let run = context::copy(py)?.into_bound(py).getattr(intern!(py, "run"))?.unbind();
        let args = PyTuple::new(py, [r#fn])?.unbind();
        let payload = Payload { run, args, kwargs: PyDict::new(py).unbind() };
        let job: Arc<dyn WorkerJob> = Arc::new(ForNobody { pool, payload: Mutex::new(Some(payload)) });
        workers::submit(py, &job);
        Ok(())
    }

    /// Ends the thread when it has done what it was asked for. Calls that come later are refused.
    fn close(&self) {
        self.closed.store(true, SeqCst);
        if let Some(pool) = self.limits.own_pool() {
            workers::close(&pool);
        }
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.close();
    }
}

/// A call that nobody waits for.
struct ForNobody {
    pool: Arc<Works>,
    payload: Mutex<Option<Payload>>,
}

impl WorkerJob for ForNobody {
    fn begin(self: Arc<Self>, _py: Python<'_>) -> Option<Payload> {
        drop(waiter::enter(None));
        take(&self.payload)
    }

    fn finish(&self, py: Python<'_>, outcome: Option<Outcome>) -> (Option<Arc<dyn WorkerJob>>, Option<Notice>) {
        if let Some(Outcome::Raised(error)) = &outcome
            && !is_no_news(py, error)
        {
            log::log(py, "error", "what a worker thread did for nobody raised", Some(error));
        }
        (None, None)
    }

    /// Drops it: by now its own thread takes no more jobs, and no other one may do this one.
    fn run_here(&self, _py: Python<'_>) {
        drop(take(&self.payload));
    }

    fn fail(&self, py: Python<'_>, error: PyErr) {
        drop(take(&self.payload));
        log::log(py, "error", "a worker thread could not be started", Some(&error));
    }

    fn pool(&self) -> Option<Arc<Works>> {
        Some(Arc::clone(&self.pool))
    }
}
