//! What runs in the calling thread already: an event loop of asyncio's kind, or trio.
//!
//! Neither library is imported to find out: one that nobody has imported does not run.

use crate::python::names;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
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
    Ok(TRIO.is_there(py) && names::in_trio_run(py)?.call0()?.is_truthy()?)
}

/// Whether the calling code runs in a task of trio's.
pub fn is_in_trio_task(py: Python<'_>) -> PyResult<bool> {
    if !TRIO.is_there(py) || !names::in_trio_task(py)?.call0()?.is_truthy()? {
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

static TRIO: Loaded = Loaded::new("trio", "sleep_until");
/// asgiref's bridge between threads.
pub static ASGIREF: Loaded = Loaded::new("asgiref.sync", "sync_to_async");
/// anyio's worker threads.
pub static ANYIO: Loaded = Loaded::new("anyio._core._eventloop", "get_async_backend");
/// Whether calls are to look at the loop that they may block: asgiref is there, or a bridge is visible.
pub static LOOK_AROUND: Look = Look::new(&ASGIREF);
/// Whether calls in worker threads are to look at the task that awaits them: anyio is there, or a bridge is visible.
pub static LOOK_AT_TASK: Look = Look::new(&ANYIO);

impl Loaded {
    const fn new(module: &'static str, last: &'static str) -> Self {
        Self { module, last, found: AtomicBool::new(false), looked_through: AtomicUsize::new(0) }
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

/// A look that calls take once a module is there, or once somebody has asked for it.
pub struct Look {
    module: &'static Loaded,
    is_wanted: AtomicBool,
}

impl Look {
    const fn new(module: &'static Loaded) -> Self {
        Self { module, is_wanted: AtomicBool::new(false) }
    }

    pub fn ask_for(&self) {
        self.is_wanted.store(true, Relaxed);
    }

    pub fn is_due(&self, py: Python<'_>) -> bool {
        self.is_wanted.load(Relaxed) || self.module.is_there(py)
    }
}

/// Whether a module was imported, by whomever.
pub fn is_imported(py: Python<'_>, module: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Late in the interpreter's end not even this can be asked, and nothing runs any more.
    names::modules(py).map_or(Ok(false), |modules| modules.contains(module))
}

/// Whether this module of ours was imported: the package knows it also where it was taken out of `sys.modules` again.
pub fn is_in_use(py: Python<'_>, module: &Bound<'_, PyString>) -> PyResult<bool> {
    let package = names::modules(py).and_then(|modules| modules.get_item(intern!(py, "syncline")));
    package.map_or(Ok(false), |package| package.hasattr(module))
}
