//! What a call runs: checked in the caller's thread, begun on the loop's.
//!
//! The coroutine of a plain async function is made in the caller's thread, which runs none of its code. Anything else
//! that is callable is called on the loop, as a part of the task: it may need the running loop (`asyncio.gather`).

use super::returned::Returned;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::sync::{Arc, OnceLock};

const CO_GENERATOR: u32 = 0x20;
const CO_COROUTINE: u32 = 0x80;
const CO_ASYNC_GENERATOR: u32 = 0x200;

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
        refuse_generators(caller, function, flags)?;
        Self::refuse_uncallable(caller, function)?;
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

    /// Raises TypeError for what can't be called, and says what to do with it instead.
    #[inline]
    pub fn refuse_uncallable(caller: &str, function: &Bound<'_, PyAny>) -> PyResult<()> {
        if function.is_callable() { Ok(()) } else { Self::refuse(caller, function) }
    }

    #[cold]
    fn refuse(caller: &str, function: &Bound<'_, PyAny>) -> PyResult<()> {
        if is_coroutine(function) {
            let name = errors::name_of(function);
            function.call_method0(intern!(function.py(), "close"))?;
            return Err(PyTypeError::new_err(format!(
                "{caller}() got a coroutine; give it the async function and its arguments: {caller}({name}, ...){}",
                if caller == "run_sync" { format!(", or use run({name}(...))") } else { String::new() }
            )));
        }
        if function.hasattr(intern!(function.py(), "__anext__"))? {
            return Err(PyTypeError::new_err(errors::no_one_result(caller, &errors::name_of(function))));
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
            refuse_unbound_gathering(awaitable)?;
            return Ok(Self::Awaitable(awaitable.clone().unbind()));
        }
        let name = errors::name_of(awaitable);
        if awaitable.is_instance(names::concurrent_future(py)?)? {
            return Err(PyTypeError::new_err("run() got a concurrent.futures.Future; wait for it: future.result()"));
        }
        if awaitable.hasattr(intern!(py, "__anext__"))? {
            return Err(PyTypeError::new_err(format!(
                "run() got an async generator, which has no one result; iterate over it: for item in iterate({name}(...))"
            )));
        }
        if awaitable.hasattr(intern!(py, "__aenter__"))? && !awaitable.is_instance_of::<PyType>() {
            let made_by =
                awaitable.getattr("func").map_or_else(|_| name.clone(), |function| errors::name_of(&function));
            return Err(PyTypeError::new_err(format!(
                "run() got an async context manager; enter it: with enter({made_by}(...)) as value"
            )));
        }
        refuse_generators("run", awaitable, flags_of(awaitable))?;
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
                iterator_of(made)?.map_err(|made| errors::not_async(caller, function.bind(py), &made))
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

    /// The target and what its beginning needs; or the error for which there is no such thing, and the target is given
    /// up.
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
            error
        }
    })?;
    iterator_of(made)?.map_err(|made| errors::not_async(caller, function, &made))
}

/// Raises TypeError for what `call` can't call, or should not.
pub fn refuse_all_but_sync(function: &Bound<'_, PyAny>) -> PyResult<()> {
    let flags = flags_of(function);
    if flags & CO_COROUTINE != 0 {
        return Err(errors::not_sync(function, "it was not called"));
    }
    if flags & CO_GENERATOR != 0 {
        return Err(PyTypeError::new_err(errors::sync_generator("call", &errors::name_of(function))));
    }
    if function.is_callable() {
        return Ok(());
    }
    if is_coroutine(function) {
        let name = errors::name_of(function);
        function.call_method0(intern!(function.py(), "close"))?;
        return Err(PyTypeError::new_err(format!(
            "call() takes a sync function and its arguments, and got a coroutine; use run_sync({name}, ...)"
        )));
    }
    let kind = errors::type_name(function);
    Err(PyTypeError::new_err(format!("call() takes a sync function and its arguments, not {kind}")))
}

/// Calls a sync function. Raises TypeError if it has made a coroutine, of which nothing would ever run.
pub fn call_plain(
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let made = function.call(args, kwargs)?;
    if is_coroutine(&made) {
        made.call_method0(intern!(made.py(), "close"))?;
        return Err(errors::not_sync(function, "what it returned is a coroutine, of which nothing has run"));
    }
    Ok(made.unbind())
}

/// The code flags (`co_flags`) of a function or method, also behind `functools.partial`; 0 for other objects. Where
/// they say "coroutine", a call makes one for certain, and runs none of its code.
fn flags_of(function: &Bound<'_, PyAny>) -> u32 {
    let py = function.py();
    // Bound methods pass attribute access on to their function.
    match function.getattr(intern!(py, "__code__")) {
        Ok(code) => code.getattr(intern!(py, "co_flags")).and_then(|flags| flags.extract()).unwrap_or(0),
        Err(_) => {
            let is_partial = names::partial(py).and_then(|partial| function.is_instance(partial)).unwrap_or(false);
            let inner = if is_partial { function.getattr(intern!(py, "func")).ok() } else { None };
            inner.map_or(0, |inner| flags_of(&inner))
        }
    }
}

/// Raises TypeError for generator functions, sync and async: a call of them makes no awaitable.
fn refuse_generators(caller: &str, function: &Bound<'_, PyAny>, flags: u32) -> PyResult<()> {
    let refused = if flags & CO_ASYNC_GENERATOR != 0 {
        errors::no_one_result(caller, &errors::name_of(function))
    } else if flags & CO_GENERATOR != 0 {
        errors::sync_generator(caller, &errors::name_of(function))
    } else {
        return Ok(());
    };
    Err(PyTypeError::new_err(refused))
}

/// Raises TypeError for what `asyncio.gather()` made while no loop ran: it belongs to a loop that nobody drives, and
/// would never be done.
fn refuse_unbound_gathering(awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
    if errors::type_name(awaitable) != "_GatheringFuture"
        || awaitable.call_method0("get_loop")?.call_method0("is_running")?.is_truthy()?
    {
        return Ok(());
    }
    Err(PyTypeError::new_err(
        "run() got what asyncio.gather() made where no loop runs; let it be called on the bridge's loop: \
         run_sync(asyncio.gather, a(), b())",
    ))
}
