//! What a call runs: checked in the caller's thread, begun on the loop's.
//!
//! The coroutine of a plain async function is made in the caller's thread, which runs none of its code. Anything else
//! that is callable is called on the loop, as a part of the task: it may need the running loop (`asyncio.gather`).

use super::kinds::{CO_COROUTINE, flags_of, is_awaitable, is_coroutine, is_generator_coroutine};
use super::refused;
use super::returned::Returned;
use crate::python::errors;
use crate::python::once::intern;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, OnceLock};

pub enum Target {
    /// A coroutine that has not been started.
    Coroutine(Py<PyAny>),
    /// Any other object with `__await__`.
    Awaitable(Py<PyAny>),
    /// To be called on the loop; what it returns is awaited.
    Function { function: Py<PyAny>, args: Py<PyTuple>, kwargs: Option<Py<PyDict>>, caller: &'static str },
    /// A sync function. What it returns is the result.
    Plain { function: Py<PyAny>, args: Py<PyTuple>, kwargs: Option<Py<PyDict>> },
    /// The same for a step of an async iterator or manager: `__anext__`, `__aexit__`. Called on the loop, as the
    /// first step of an async generator calls a hook of the running loop's, which closes it later if nobody else does.
    Step { function: Py<PyAny>, args: Py<PyTuple> },
    /// The next item of a source: `__anext__()` of the iterator that `source.__aiter__()` has returned once.
    Next { items: Arc<Items>, source: Py<PyAny> },
}

/// The async iterator of a source. The source's `__aiter__` is called once, at the first step.
#[derive(Default)]
pub struct Items {
    /// `None` if the source is its own iterator. Not a reference to the source then: it would keep the source alive.
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
                if !iterator.hasattr(intern!(py, "__anext__"))? {
                    let what = errors::type_name(&iterator);
                    let message = format!("{what}, which `__aiter__` has returned, has no `__anext__`");
                    return Err(PyTypeError::new_err(message));
                }
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

    /// The iterator, or the source if it has none yet: the object whose `aclose` is to be called, if it has one.
    pub fn iterator<'py>(&self, source: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        match self.iterator.get() {
            Some(Some(iterator)) => iterator.bind(source.py()).clone(),
            Some(None) | None => source.clone(),
        }
    }
}

impl Target {
    /// For `run_sync(function, ...)` and the like. `caller` is the function's name, for messages.
    pub fn from_function(
        caller: &'static str,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let flags = flags_of(function);
        if flags & CO_COROUTINE != 0 {
            let made = function.call(args, kwargs);
            let made = made.map_err(|error| errors::without_timeout(caller, function, kwargs, error))?;
            return Ok(Self::Coroutine(made.unbind()));
        }
        refused::generators(caller, function, flags)?;
        refused::uncallable(caller, function)?;
        Ok(Self::Function {
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
            caller,
        })
    }

    /// For `call(function, ...)`, whose function is sync.
    pub fn plain(function: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::Plain {
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
        }
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
            return Err(refused::used_up(awaitable));
        }
        if !is_awaitable(awaitable)? {
            return Err(refused::no_awaitable(awaitable)?);
        }
        refused::unbound_gathering(awaitable)?;
        Ok(Self::Awaitable(awaitable.clone().unbind()))
    }

    /// The iterator that the task drives; for the loop's thread.
    pub fn begin(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Coroutine(coroutine) => Ok(coroutine),
            Self::Awaitable(awaitable) => begin_awaiting(awaitable.into_bound(py)),
            Self::Function { function, args, kwargs, caller } => {
                let function = function.bind(py);
                let made = function.call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
                let made = made.map_err(|error| errors::of_a_manager(caller, function, error))?;
                iterator_of(made)?.map_err(|made| errors::not_async(caller, function, &made))
            }
            Self::Plain { function, args, kwargs } => {
                let made = call_plain(function.bind(py), args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)))?;
                Ok(Bound::new(py, Returned::new(made))?.into_any().unbind())
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

    /// Gives up a target that will never be begun. Closes a coroutine, so that Python does not warn that it "was never
    /// awaited".
    pub fn discard(self, py: Python<'_>) {
        let closed = match self {
            Self::Coroutine(coroutine) => coroutine.call_method0(py, intern!(py, "close")).map(drop),
            Self::Awaitable(_) | Self::Function { .. } | Self::Plain { .. } | Self::Step { .. } | Self::Next { .. } => {
                Ok(())
            }
        };
        if let Err(error) = closed {
            error.write_unraisable(py, None);
        }
    }

    /// What gives it its name: the function, or what came of calling it.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        match self {
            Self::Coroutine(object) | Self::Awaitable(object) | Self::Next { source: object, .. } => object.bind(py),
            Self::Function { function, .. } | Self::Plain { function, .. } | Self::Step { function, .. } => {
                function.bind(py)
            }
        }
    }

    /// Returns the target together with what is needed in order to begin it. If there is only an error instead, gives
    /// the target up (`discard`), and returns the error.
    pub fn with<T>(self, py: Python<'_>, needed: PyResult<T>) -> PyResult<(Self, T)> {
        match needed {
            Ok(needed) => Ok((self, needed)),
            Err(error) => {
                self.discard(py);
                Err(error)
            }
        }
    }
}

/// `Ok`: the iterator that drives this awaitable. `Err`: the object itself, which is none.
pub fn iterator_of(made: Bound<'_, PyAny>) -> PyResult<Result<Py<PyAny>, Bound<'_, PyAny>>> {
    if is_coroutine(&made) {
        return Ok(Ok(made.unbind()));
    }
    if is_awaitable(&made)? { begin_awaiting(made).map(Ok) } else { Ok(Err(made)) }
}

/// What drives an object that can be awaited and is no coroutine.
fn begin_awaiting(awaitable: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if is_generator_coroutine(&awaitable)? {
        return Ok(awaitable.unbind());
    }
    let iterator = awaitable.call_method0(intern!(awaitable.py(), "__await__"))?;
    // SAFETY: the check only looks at the type of a live object.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } != 0 || is_coroutine(&iterator) {
        return Ok(iterator.unbind());
    }
    let kind = errors::type_name(&iterator);
    Err(PyTypeError::new_err(format!("__await__() must return an iterator; it returned {kind}")))
}

/// For a nested call that awaits in place: calls the function, and returns the iterator that drives what it made. It
/// runs on the loop already, so all kinds of functions are called alike.
pub fn call<'py>(
    caller: &str,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let made = function.call(args, kwargs).map_err(|error| {
        if flags_of(function) & CO_COROUTINE != 0 {
            errors::without_timeout(caller, function, kwargs, error)
        } else {
            errors::of_a_manager(caller, function, error)
        }
    })?;
    iterator_of(made)?.map_err(|made| errors::not_async(caller, function, &made))
}

/// Calls a sync function. Raises TypeError if it has made a coroutine, of which nothing would ever run.
pub fn call_plain(
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let made = function.call(args, kwargs).map_err(|error| errors::of_a_manager("call", function, error))?;
    if is_coroutine(&made) {
        made.call_method0(intern!(made.py(), "close"))?;
        return Err(errors::not_sync(function, "what it returned is a coroutine, of which nothing has run"));
    }
    Ok(made.unbind())
}
