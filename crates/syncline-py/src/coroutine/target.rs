//! What a call runs: checked in the caller's thread, begun on the loop's.
//!
//! The coroutine of a plain async function is made in the caller's thread, which runs none of its code. Anything else
//! that is callable is called on the loop, as a part of the task: it may need the running loop (`asyncio.gather`).

use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, OnceLock};

const CO_COROUTINE: u32 = 0x80;

pub enum Target {
    /// A coroutine that has not been started.
    Coroutine(Py<PyAny>),
    /// Any other object with `__await__`.
    Awaitable(Py<PyAny>),
    /// To be called on the loop; what it returns is awaited.
    Function { function: Py<PyAny>, args: Py<PyTuple>, kwargs: Option<Py<PyDict>>, caller: &'static str },
    /// The same for a step of an async iterator or manager: `__anext__`, `__aexit__`. (Async generators must take their
    /// steps there: the first tells the loop, by a hook of the thread's, to finalize them.)
    Step { function: Py<PyAny>, args: Py<PyTuple> },
    /// `__anext__()` of what `__aiter__()` of the source returns, at its first step.
    Next { items: Arc<Items>, source: Py<PyAny> },
}

/// The async iterator of a source, which is asked for it once.
#[derive(Default)]
pub struct Items {
    /// `None` if the source is its own iterator: what belongs to the source must not keep it alive.
    iterator: OnceLock<Option<Py<PyAny>>>,
}

impl Items {
    /// A source that is known to be its own iterator, whatever its `__aiter__` says.
    pub fn of_itself() -> Self {
        Self { iterator: OnceLock::from(None) }
    }

    pub fn next<'py>(&self, source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = source.py();
        let iterator = match self.iterator.get() {
            Some(iterator) => iterator,
            None => {
                let iterator = source.call_method0(intern!(py, "__aiter__"))?;
                let iterator = (!iterator.is(source)).then(|| iterator.unbind());
                self.iterator.get_or_init(|| iterator)
            }
        };
        let iterator = iterator.as_ref().map_or(source, |iterator| iterator.bind(py));
        iterator.call_method0(intern!(py, "__anext__"))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iterator.get().and_then(Option::as_ref).map_or(Ok(()), |iterator| visit.call(iterator))
    }

    /// The object that has the `aclose`, if any has.
    pub fn iterator<'py>(&self, source: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        match self.iterator.get() {
            Some(Some(iterator)) => iterator.bind(source.py()).clone(),
            Some(None) | None => source.clone(),
        }
    }
}

impl Target {
    /// For `run_sync(function, ...)`, or whatever the caller is called.
    pub fn from_function(
        caller: &'static str,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if is_coroutine_function(function) {
            return Ok(Self::Coroutine(function.call(args, kwargs)?.unbind()));
        }
        if function.is_callable() {
            return Ok(Self::Function {
                function: function.clone().unbind(),
                args: args.clone().unbind(),
                kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
                caller,
            });
        }
        if is_coroutine(function) {
            let name = errors::name_of(function);
            function.call_method0(intern!(function.py(), "close"))?;
            return Err(PyTypeError::new_err(format!(
                "{caller}() got a coroutine; give it the async function and its arguments: {caller}({name}, ...){}",
                if caller == "run_sync" { format!(", or use run({name}(...))") } else { String::new() }
            )));
        }
        if function.hasattr(intern!(function.py(), "__await__"))? {
            let kind = errors::type_name(function);
            return Err(PyTypeError::new_err(format!(
                "{caller}() takes an async function and its arguments, not an awaitable; use run(...) for this {kind}"
            )));
        }
        let kind = errors::type_name(function);
        Err(PyTypeError::new_err(format!("{caller}() takes an async function and its arguments, not {kind}")))
    }

    /// For `run(awaitable)`.
    pub fn from_awaitable(awaitable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = awaitable.py();
        if is_coroutine(awaitable) {
            let running = awaitable.getattr(intern!(py, "cr_running"))?.is_truthy()?;
            let fresh = !running
                && !awaitable.getattr(intern!(py, "cr_suspended"))?.is_truthy()?
                && !awaitable.getattr(intern!(py, "cr_frame"))?.is_none();
            if fresh {
                return Ok(Self::Coroutine(awaitable.clone().unbind()));
            }
            let name = errors::name_of(awaitable);
            return Err(PyRuntimeError::new_err(format!(
                "run() got a coroutine that has already been awaited; make a new one: run({name}(...))"
            )));
        }
        if awaitable.hasattr(intern!(py, "__await__"))? {
            return Ok(Self::Awaitable(awaitable.clone().unbind()));
        }
        let name = errors::name_of(awaitable);
        if awaitable.is_instance(names::concurrent_future(py)?)? {
            return Err(PyTypeError::new_err("run() got a concurrent.futures.Future; wait for it: future.result()"));
        }
        if awaitable.is_instance(names::async_generator_type(py)?)? {
            return Err(PyTypeError::new_err(format!(
                "run() got an async generator, which has no one result; iterate over it: for item in synced({name})(...)"
            )));
        }
        if awaitable.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "run() takes an awaitable and got the function {name:?}; use run_sync({name}, ...) or run({name}(...))"
            )));
        }
        let kind = errors::type_name(awaitable);
        Err(PyTypeError::new_err(format!("run() takes an awaitable, such as a coroutine, not {kind}")))
    }

    /// The iterator that the task drives; for the loop's thread.
    pub fn begin(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Coroutine(coroutine) => Ok(coroutine),
            Self::Awaitable(awaitable) => awaitable.call_method0(py, intern!(py, "__await__")),
            Self::Function { function, args, kwargs, caller } => {
                let made = function.bind(py).call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)))?;
                iterator_of(made)?.map_err(|_| errors::not_async(caller, function.bind(py)))
            }
            Self::Next { items, source } => {
                let made = items.next(source.bind(py))?;
                iterator_of(made)?.map_err(|made| errors::not_awaitable("__anext__", &made))
            }
            Self::Step { function, args } => {
                let made = function.bind(py).call1(args.bind(py))?;
                iterator_of(made)?.map_err(|made| errors::not_awaitable(&errors::name_of(function.bind(py)), &made))
            }
        }
    }

    /// Gives up a target that will never be begun, without "coroutine ... was never awaited".
    pub fn discard(self, py: Python<'_>) {
        let closed = match self {
            Self::Coroutine(coroutine) => coroutine.call_method0(py, intern!(py, "close")).map(drop),
            Self::Awaitable(_) | Self::Function { .. } | Self::Step { .. } | Self::Next { .. } => Ok(()),
        };
        if let Err(error) = closed {
            error.write_unraisable(py, None);
        }
    }
}

/// What drives an awaitable; the object itself if it is none.
pub fn iterator_of(made: Bound<'_, PyAny>) -> PyResult<Result<Py<PyAny>, Bound<'_, PyAny>>> {
    let py = made.py();
    if is_coroutine(&made) {
        return Ok(Ok(made.unbind()));
    }
    if made.hasattr(intern!(py, "__await__"))? {
        return Ok(Ok(made.call_method0(intern!(py, "__await__"))?.unbind()));
    }
    Ok(Err(made))
}

/// Whether this is what calling an `async def` function returns.
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the check only compares the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// Whether calling this surely makes a coroutine and runs none of its code: `async def` functions and methods, also
/// behind `functools.partial`.
fn is_coroutine_function(function: &Bound<'_, PyAny>) -> bool {
    let py = function.py();
    // Bound methods pass attribute access on to their function.
    match function.getattr(intern!(py, "__code__")) {
        Ok(code) => {
            let flags = code.getattr(intern!(py, "co_flags")).and_then(|flags| flags.extract::<u32>());
            flags.is_ok_and(|flags| flags & CO_COROUTINE != 0)
        }
        Err(_) => {
            let is_partial = names::partial(py).and_then(|partial| function.is_instance(partial)).unwrap_or(false);
            is_partial && function.getattr(intern!(py, "func")).is_ok_and(|inner| is_coroutine_function(&inner))
        }
    }
}
