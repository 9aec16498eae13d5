//! Threads: how they are told apart, and how those of runners and workers are started. These are daemon
//! `threading.Thread`s, so that debuggers and `threading` see them.

use crate::python::condition::Condition;
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::version;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};

/// The modules that can patch a process so that its threads are greenlets.
const PATCHERS: [&str; 2] = ["gevent.monkey", "eventlet.patcher"];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD_KEY: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A number that was never given out in this process before.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

/// A number for this thread that no other one ever has; Python's identifiers are used again.
pub fn thread_key() -> u64 {
    THREAD_KEY.get().unwrap_or_else(|| {
        let key = next_id();
        THREAD_KEY.set(Some(key));
        key
    })
}

/// What runs in a new thread before any Python code does. Then the thread's lowest frame is ours, which it must not be
/// where the exit may unwind the thread (before Python 3.14).
pub type First = Box<dyn Fn() + Send + Sync>;

/// Starts a thread that is called `name` and calls `target(*args)`.
pub fn start(
    py: Python<'_>,
    name: &str,
    target: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    first: Option<First>,
) -> PyResult<Py<PyAny>> {
    check_for_greenlets(py)?;
    let options = PyDict::new(py);
    options.set_item("target", target)?;
    options.set_item("args", args)?;
    options.set_item("name", name)?;
    options.set_item("daemon", true)?;
    if version::minor() >= 14 {
        // In some builds threads inherit the context of the thread that starts them. Ours live long, and would keep
        // alive what is in it.
        options.set_item("context", names::context(py)?.call0()?)?;
    }
    let thread = names::thread(py)?.call((), Some(&options))?;
    let started = thread.getattr_opt(intern!(py, "_started"))?;
    // The new thread, which sets the event, must not be stuck at a lock.
    if let Some(started) = &started
        && started.hasattr(intern!(py, "_cond"))?
    {
        started.setattr(intern!(py, "_cond"), Condition::new(py)?)?;
    }
    match started {
        Some(started) if start_at_once(&thread, first)? => {
            // Waits until the thread runs, as `Thread.start()` does: from then on it is listed as a running one. What
            // a signal handler raises meanwhile is kept for the caller, whose thread does run.
            if let Err(error) = started.call_method0(intern!(py, "wait")) {
                let _ = signals::keep(py, error);
            }
        }
        _ => drop(thread.call_method0(intern!(py, "start"))?),
    }
    Ok(thread.unbind())
}

/// The same for Python code of ours, which is called without arguments. False where no thread can be started now.
#[pyfunction]
pub fn start_thread(py: Python<'_>, name: &str, target: Bound<'_, PyAny>) -> PyResult<bool> {
    match start(py, name, target, PyTuple::empty(py), None) {
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) && !signals::are_handlers(py, &error) => Ok(false),
        started => started.map(|_| true),
    }
}

/// Does what `Thread.start()` does, but does not wait for the thread to run. No Python code runs here, in which a
/// signal handler could raise and leave the thread, or the locks of its event, half changed. False where this version
/// of Python lacks the private functions that this uses.
fn start_at_once(thread: &Bound<'_, PyAny>, first: Option<First>) -> PyResult<bool> {
    let py = thread.py();
    let threading = py.import(intern!(py, "threading"))?;
    let (Some(limbo), Some(bootstrap)) =
        (threading.getattr_opt(intern!(py, "_limbo"))?, thread.getattr_opt(intern!(py, "_bootstrap"))?)
    else {
        return Ok(false);
    };
    let Ok(limbo) = limbo.cast_into::<PyDict>() else { return Ok(false) };
    let bootstrap = match first {
        Some(first) => Bound::new(py, Preceded { first, bootstrap: Mutex::new(Some(bootstrap.unbind())) })?.into_any(),
        None => bootstrap,
    };
    let joinable = threading.getattr_opt(intern!(py, "_start_joinable_thread"))?;
    let plain = threading.getattr_opt(intern!(py, "_start_new_thread"))?;
    // Python 3.14 and later; 3.13.
    let handle = match thread.getattr_opt(intern!(py, "_os_thread_handle"))? {
        Some(handle) => Some(handle),
        None => thread.getattr_opt(intern!(py, "_handle"))?,
    };
    let start = || match (joinable, handle, plain) {
        (Some(start), Some(handle), _) => {
            let options = PyDict::new(py);
            options.set_item(intern!(py, "handle"), handle)?;
            options.set_item(intern!(py, "daemon"), true)?;
            start.call((bootstrap,), Some(&options)).map(|_| true)
        }
        (None, _, Some(start)) => start.call1((bootstrap, ())).map(|_| true),
        _ => Ok(false),
    };
    // The new thread removes itself from `_limbo`, so it has to be there before it runs.
    limbo.set_item(thread, thread)?;
    let started = start();
    if !matches!(started, Ok(true)) {
        limbo.del_item(thread)?;
    }
    started
}

/// Calls `first`, and then `bootstrap`, once.
#[pyclass(frozen, module = "syncline._core")]
struct Preceded {
    first: First,
    /// A method of the thread. Taken out by the call, so that the thread frees it, and not whoever comes last.
    bootstrap: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Preceded {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        (self.first)();
        let bootstrap = lock(&self.bootstrap).take();
        bootstrap.map_or_else(|| Ok(py.None()), |bootstrap| bootstrap.call0(py))
    }

    /// The thread, as a method has it. Debuggers that get hold of a thread's start ask for it; without an answer
    /// debugpy takes the thread for two, and the one that it stops never answers.
    #[getter]
    fn __self__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let bootstrap = lock(&self.bootstrap).as_ref().map(|bootstrap| bootstrap.clone_ref(py));
        let bootstrap = bootstrap.ok_or_else(|| PyAttributeError::new_err("__self__"))?;
        bootstrap.getattr(py, intern!(py, "__self__"))
    }
}

/// Raises RuntimeError where gevent or eventlet has replaced threads by greenlets: a loop's thread would be a
/// greenlet of the calling thread then, and would never run while the caller waits for it.
fn check_for_greenlets(py: Python<'_>) -> PyResult<()> {
    let modules = names::modules(py)?;
    for patcher in PATCHERS {
        if modules.contains(patcher)?
            && let Some(message) = names::explain_patched_threads(py)?.call0()?.extract::<Option<String>>()?
        {
            return Err(PyRuntimeError::new_err(message));
        }
    }
    Ok(())
}
