//! The exceptions that syncline raises, and the one place that words its errors.

use crate::once::{Once, intern};
#[cfg(target_os = "linux")]
use pyo3::exceptions::PyOSError;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

struct Lazy {
    name: &'static str,
    doc: &'static str,
    cell: Once<Py<PyType>>,
}

static BASE: Lazy =
    Lazy { name: "SynclineError", doc: "Base class of the errors that syncline itself raises.", cell: Once::new() };
static CLOSED: Lazy = Lazy {
    name: "RunnerClosedError",
    doc: "The bridge, or the loop that ran the call, was closed, was stopped or died.",
    cell: Once::new(),
};
static DEADLOCK: Lazy = Lazy {
    name: "DeadlockError",
    doc: "The wait could never have ended: what it waits for waits for this thread.",
    cell: Once::new(),
};

impl Lazy {
    /// The class, made by `type(name, bases, namespace)`: PyO3's own means give a class one base only.
    fn get<'py>(&'static self, py: Python<'py>, bases: &[Bound<'py, PyType>]) -> PyResult<Bound<'py, PyType>> {
        let made = self.cell.get_or_try_init(py, || {
            let namespace = PyDict::new(py);
            namespace.set_item("__module__", "syncline")?;
            namespace.set_item("__doc__", self.doc)?;
            let class = py.get_type::<PyType>().call1((self.name, PyTuple::new(py, bases)?, namespace))?;
            PyResult::Ok(class.cast_into::<PyType>()?.unbind())
        })?;
        Ok(made.bind(py).clone())
    }
}

fn base(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    BASE.get(py, &[py.get_type::<PyException>()])
}

fn runtime<'py>(py: Python<'py>, class: &'static Lazy) -> PyResult<Bound<'py, PyType>> {
    class.get(py, &[base(py)?, py.get_type::<PyRuntimeError>()])
}

fn make(py: Python<'_>, class: &'static Lazy, message: String) -> PyErr {
    match runtime(py, class) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

pub fn export(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("SynclineError", base(py)?)?;
    module.add("RunnerClosedError", runtime(py, &CLOSED)?)?;
    module.add("DeadlockError", runtime(py, &DEADLOCK)?)
}

pub fn deadlock(py: Python<'_>, message: String) -> PyErr {
    make(py, &DEADLOCK, message)
}

pub fn runner_closed(py: Python<'_>, message: String) -> PyErr {
    make(py, &CLOSED, message)
}

pub fn bridge_closed(py: Python<'_>, name: &str) -> PyErr {
    runner_closed(py, format!("the bridge {name:?} is closed; make a new one: syncline.Bridge()"))
}

pub fn closed_meanwhile(py: Python<'_>, name: &str) -> PyErr {
    runner_closed(
        py,
        format!(
            "the runner {name:?} was closed, or its loop was stopped, before the call ended; the coroutine was cancelled"
        ),
    )
}

pub fn nested(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "a coroutine on the loop of the bridge {name:?} called sync code that calls the bridge again, which \
         nested=\"error\" forbids; await the async function instead, or use Bridge(nested=\"switch\") or \
         Bridge(nested=\"thread\")"
    ))
}

pub fn shutting_down() -> PyErr {
    PyRuntimeError::new_err(
        "the interpreter is shutting down and no loop can run any more; make the call earlier, for instance in a \
         `with` block or a function registered with atexit",
    )
}

/// The result of a function that was given to `run_sync` (or whatever the caller is called) and is not async.
pub fn not_async(caller: &str, function: &Bound<'_, PyAny>) -> PyErr {
    let name = name_of(function);
    PyTypeError::new_err(format!("{caller}() got the sync function {name:?}; call it directly: {name}(...)"))
}

/// What a step of an async iterator or manager returned, where an awaitable is due.
pub fn not_awaitable(name: &str, made: &Bound<'_, PyAny>) -> PyErr {
    let kind = type_name(made);
    PyTypeError::new_err(format!(
        "{name}() must return an awaitable, as an `async def` method does; it returned {kind}"
    ))
}

/// What to call a function in a message.
pub fn name_of(function: &Bound<'_, PyAny>) -> String {
    let named = function.getattr("__name__").and_then(|name| name.extract::<String>());
    named.unwrap_or_else(|_| type_name(function))
}

pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    let name = object.get_type().getattr(intern!(object.py(), "__name__"));
    name.map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

/// An OSError that knows its number; Python makes the right subclass of it.
#[cfg(target_os = "linux")]
pub fn from_errno(errno: rustix::io::Errno) -> PyErr {
    let text = std::io::Error::from(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((errno.raw_os_error(), words))
}

/// Sets `error.__cause__`, as `raise error from cause` does.
pub fn from_cause(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}

/// Python starts no thread once the interpreter shuts down (3.12 and later).
pub fn is_too_late(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py) && error.to_string().contains("interpreter shutdown")
}

/// Runs `work` in a destructor: an exception that is on its way is not lost, nor taken for one of what runs here.
pub fn keeping_raised<T>(py: Python<'_>, work: impl FnOnce() -> T) -> T {
    let raised = PyErr::take(py);
    let result = work();
    if let Some(raised) = raised {
        raised.restore(py);
    }
    result
}
