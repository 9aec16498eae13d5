//! A condition that a signal handler's exception can't leave locked.
//!
//! The standard library's is Python code. What a handler raises in the middle of it leaves its lock taken for good, or
//! given away twice, and whoever needs that lock next is stuck: a new thread that says that it runs, the loop of all
//! callers that settles a future.

use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_core::latch::Latch;
use syncline_core::sync::{Mutex, lock};

/// How often the main thread looks for signals that were delivered to another one.
const TICK: Duration = Duration::from_millis(50);

/// As much of `threading.Condition` as events and futures use.
#[pyclass(frozen, weakref, module = "syncline._core")]
pub struct Condition {
    lock: Py<PyAny>,
    sleepers: Mutex<Vec<Arc<Latch>>>,
}

#[pymethods]
impl Condition {
    #[new]
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { lock: names::rlock(py)?.call0()?.unbind(), sleepers: Mutex::default() })
    }

    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<Py<PyAny>> {
        self.lock.call_method1(py, intern!(py, "acquire"), (blocking, timeout))
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.call_method0(py, intern!(py, "release")).map(drop)
    }

    /// Takes the lock, for `__enter__`.
    #[getter]
    fn _taken(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py)
    }

    /// Whether it was notified before `timeout` seconds were over. What a handler raises is raised with the lock taken
    /// again.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let span = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)));
        let until = span.and_then(Result::ok).and_then(|span| Instant::now().checked_add(span));
        let latch = Arc::new(Latch::new());
        lock(&self.sleepers).push(Arc::clone(&latch));
        let result = self.lock.call_method0(py, intern!(py, "_release_save")).and_then(|held| {
            let waited = sleep(py, &latch, until);
            self.lock.call_method1(py, intern!(py, "_acquire_restore"), (held,))?;
            waited
        });
        lock(&self.sleepers).retain(|known| !Arc::ptr_eq(known, &latch));
        result
    }

    #[pyo3(signature = (n=1))]
    fn notify(&self, n: usize) {
        let mut sleepers = lock(&self.sleepers);
        let count = n.min(sleepers.len());
        sleepers.drain(..count).for_each(|latch| latch.open());
    }

    fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.sleepers).clear();
        self.lock.call_method0(py, intern!(py, "_at_fork_reinit")).map(drop)
    }
}

/// Gives the class its `__enter__`. Python 3.14 looks for signals when a function of C's has returned, also where that
/// was the one by which a `with` has taken a lock and the block has not begun: what a handler raises there leaves the
/// lock taken. It does not look where a function of Python's returns, or an attribute was read.
pub fn complete(py: Python<'_>) -> PyResult<()> {
    let enter = py.eval(c"lambda self: self._taken", Some(&PyDict::new(py)), None)?;
    py.get_type::<Condition>().setattr("__enter__", enter)
}

/// Whether the latch was opened before `until`.
fn sleep(py: Python<'_>, latch: &Latch, until: Option<Instant>) -> PyResult<bool> {
    let longest = process::is_main_thread(py).then_some(TICK);
    loop {
        if latch.is_open() {
            return Ok(true);
        }
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let span = [left, longest].into_iter().flatten().min();
        process::sleep(py, || _ = latch.wait(span));
        py.check_signals()?;
    }
}
