//! What runs in the calling thread already: an event loop of asyncio's kind, or trio.
//!
//! Neither library is imported to find out: one that nobody has imported does not run.

use crate::python::names;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Which library runs coroutines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Asyncio,
    Trio,
}

/// The object by which code that runs on a loop knows it: the loop, or trio's token.
pub struct Anchor {
    pub object: Py<PyAny>,
    pub backend: Backend,
}

impl Anchor {
    pub fn runs_here(&self, py: Python<'_>) -> bool {
        let running = match self.backend {
            Backend::Asyncio => names::running_loop(py),
            Backend::Trio => runs_trio(py).and_then(|runs| runs.then(|| names::trio_token(py)?.call0()).transpose()),
        };
        running.is_ok_and(|running| running.is_some_and(|running| running.is(&self.object)))
    }
}

/// Whether trio runs in this thread. The calling code need not be a task's.
pub fn runs_trio(py: Python<'_>) -> PyResult<bool> {
    Ok(is_imported(py, intern!(py, "trio"))? && names::in_trio_run(py)?.call0()?.is_truthy()?)
}

/// Whether the calling code runs in a task of trio's.
pub fn is_in_trio_task(py: Python<'_>) -> PyResult<bool> {
    if !is_imported(py, intern!(py, "trio"))? || !names::in_trio_task(py)?.call0()?.is_truthy()? {
        return Ok(false);
    }
    // In a task of asyncio's the answer is no, even where its loop runs inside trio.
    Ok(names::running_loop(py)?.is_none() || names::current_task(py)?.call0()?.is_none())
}

/// sniffio's context variable, in which anyio's programs say which library runs them. `None` if nobody has imported
/// sniffio, and so nobody reads it.
pub fn library_variable(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    if is_imported(py, intern!(py, "sniffio"))? { names::library_variable(py).map(Some) } else { Ok(None) }
}

/// Whether an event loop, asyncio's or trio's, runs in this thread.
#[pyfunction]
pub fn in_event_loop(py: Python<'_>) -> PyResult<bool> {
    if runs_trio(py)? {
        return Ok(true);
    }
    Ok(is_imported(py, intern!(py, "asyncio"))? && names::running_loop(py)?.is_some())
}

/// For code in a task of trio's: whether a cancel scope around it was cancelled, and no shield is in between.
pub fn is_cancelled_in_trio(py: Python<'_>) -> PyResult<bool> {
    Ok(names::trio_effective_deadline(py)?.call0()?.extract::<f64>()? == f64::NEG_INFINITY)
}

/// A module that is asked for in each call. As long as nobody imports anything, that is one comparison.
pub struct Loaded {
    module: &'static str,
    /// What it has when it is there as a whole: another thread may be in the middle of importing it.
    last: &'static str,
    found: AtomicBool,
    looked_through: AtomicUsize,
}

/// asgiref's bridge between threads.
pub static ASGIREF: Loaded = Loaded::new("asgiref.sync", "sync_to_async");
/// Whether calls are to look at the loop that they may block: asgiref is there, or a bridge is visible.
pub static LOOK_AROUND: Loaded = Loaded::new("asgiref.sync", "sync_to_async");
/// Whether calls in worker threads are to look at the task that awaits them: anyio is there, or a bridge is visible.
pub static LOOK_AT_TASK: Loaded = Loaded::new("anyio._core._eventloop", "get_async_backend");
/// anyio's worker threads.
pub static ANYIO: Loaded = Loaded::new("anyio._core._eventloop", "get_async_backend");

impl Loaded {
    const fn new(module: &'static str, last: &'static str) -> Self {
        Self { module, last, found: AtomicBool::new(false), looked_through: AtomicUsize::new(0) }
    }

    /// From now on it counts as loaded.
    pub fn note(&self) {
        self.found.store(true, Relaxed);
    }

    /// Whether the program has loaded it.
    pub fn is_there(&self, py: Python<'_>) -> bool {
        if self.found.load(Relaxed) {
            return true;
        }
        let Ok(modules) = names::modules(py).and_then(|modules| Ok(modules.cast::<PyDict>()?)) else { return false };
        let count = modules.len();
        if self.looked_through.load(Relaxed) == count {
            return false;
        }
        match modules.get_item(self.module) {
            Ok(Some(module)) => self.found.store(module.hasattr(self.last).unwrap_or(false), Relaxed),
            _ => self.looked_through.store(count, Relaxed),
        }
        self.found.load(Relaxed)
    }
}

/// Whether a module was imported, by whomever.
pub fn is_imported(py: Python<'_>, module: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Late in the interpreter's end not even this can be asked, and nothing runs any more.
    names::modules(py).map_or(Ok(false), |modules| modules.contains(module))
}
