//! What a call runs: checked in the caller's thread, begun on the loop's.
//!
//! The coroutine of a plain async function is made in the caller's thread, which runs none of its code. Anything else
//! that is callable is called on the loop, as a part of the task: it may need the running loop (`asyncio.gather`).

use super::returned::Returned;
use crate::python::errors;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::residents;
use crate::python::signals;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::ffi::{CStr, c_int};
use std::sync::{Arc, OnceLock};

const CO_GENERATOR: u32 = 0x20;
const CO_COROUTINE: u32 = 0x80;
/// Of a generator function that `types.coroutine` decorates: what it makes can be awaited, and driven, as it is.
const CO_ITERABLE_COROUTINE: u32 = 0x100;
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

    /// The error for `run(awaitable, *more)`.
    #[cold]
    pub fn refuse_more(self, awaitable: &Bound<'_, PyAny>, more: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
        let name = errors::name_of(awaitable);
        let first = more.get_item(0)?;
        let is_limit = more.len() == 1 && (first.is_none() || first.extract::<f64>().is_ok());
        for each in more.iter().chain([awaitable.clone()]).filter(is_coroutine) {
            each.call_method0(intern!(each.py(), "close"))?;
        }
        Ok(PyTypeError::new_err(if is_limit {
            format!("run() takes the time limit by its name: run({name}(...), timeout={})", first.repr()?)
        } else {
            "run() takes one awaitable; for the results of several: run_sync(asyncio.gather, a(), b())".to_owned()
        }))
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
        if is_awaitable(awaitable)? {
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
            let advice = errors::to_be_entered(awaitable);
            return Err(PyTypeError::new_err(format!("run() got an async context manager; {advice}")));
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
            Self::Awaitable(awaitable) => begin_awaiting(awaitable.into_bound(py)),
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

fn is_awaitable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.hasattr(intern!(object.py(), "__await__"))? || is_generator_coroutine(object)?)
}

/// Whether this is what calling a generator function returns that `types.coroutine` decorates. It is driven as it is.
fn is_generator_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: the check only compares the type of a live object.
    if unsafe { ffi::PyGen_CheckExact(object.as_ptr()) } == 0 {
        return Ok(false);
    }
    let py = object.py();
    let flags: u32 = object.getattr(intern!(py, "gi_code"))?.getattr(intern!(py, "co_flags"))?.extract()?;
    Ok(flags & CO_ITERABLE_COROUTINE != 0)
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
    // SAFETY: the check only compares the type of a live object.
    if unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0
        && let Some(flags) = flags_of_plain(function)
    {
        return flags;
    }
    // Bound methods pass attribute access on to their function.
    match signals::unbroken(py, || function.getattr(intern!(py, "__code__"))) {
        Ok(code) => code.getattr(intern!(py, "co_flags")).and_then(|flags| flags.extract()).unwrap_or(0),
        Err(_) => {
            let is_partial = names::partial(py).and_then(|partial| function.is_instance(partial)).unwrap_or(false);
            let inner = if is_partial { function.getattr(intern!(py, "func")).ok() } else { None };
            inner.map_or(0, |inner| flags_of(&inner))
        }
    }
}

/// Raises TypeError for an `async def`, or a method that is one, where a worker thread is to call it.
pub fn refuse_async(caller: &str, function: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the check only compares the type of a live object.
    let is_function = unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0;
    // Other objects would take long to ask.
    let is_asked = is_function || function.get_type().is(names::method_type(function.py())?);
    match if is_asked { flags_of(function) & (CO_COROUTINE | CO_ASYNC_GENERATOR) } else { 0 } {
        0 => Ok(()),
        flags => Err(errors::async_in_a_thread(caller, function, flags == CO_ASYNC_GENERATOR)),
    }
}

/// The same for what `def` and `async def` make, without a look-up of names. `None` if code objects don't tell where they
/// have their flags.
fn flags_of_plain(function: &Bound<'_, PyAny>) -> Option<u32> {
    static OFFSET: Once<Option<usize>> = Once::new();
    let py = function.py();
    // SAFETY: a function, which is alive and keeps its code.
    let code = unsafe { ffi::PyFunction_GetCode(function.as_ptr()) };
    let find = || {
        // SAFETY: `code` is alive.
        let class = unsafe { ffi::Py_TYPE(code) };
        // SAFETY: a type object of the interpreter's, which may be read while attached.
        Ok(offset_of_flags(unsafe { (*class).tp_members }))
    };
    let offset = (*OFFSET.get_or_try_init(py, find).ok()?)?;
    // SAFETY: `offset` is where objects of that type, which has no subtypes, have this field.
    let field = unsafe { code.byte_add(offset) }.cast::<c_int>();
    // SAFETY: as above; it is never written.
    u32::try_from(unsafe { *field }).ok()
}

/// The place of `co_flags` in a table of members.
fn offset_of_flags(members: *mut ffi::PyMemberDef) -> Option<usize> {
    let mut next = members;
    while !next.is_null() {
        // SAFETY: the table ends with an entry without a name, which ends the loop.
        let entry = unsafe { *next };
        if entry.name.is_null() {
            break;
        }
        // SAFETY: a C string of the type's.
        if unsafe { CStr::from_ptr(entry.name) } == c"co_flags" && entry.type_code == ffi::Py_T_INT {
            return usize::try_from(entry.offset).ok();
        }
        // SAFETY: not the last entry.
        next = unsafe { next.add(1) };
    }
    None
}

/// Raises TypeError for generator functions, sync and async: a call of them makes no awaitable.
fn refuse_generators(caller: &str, function: &Bound<'_, PyAny>, flags: u32) -> PyResult<()> {
    let refused = if flags & CO_ASYNC_GENERATOR != 0 {
        errors::no_one_result(caller, &errors::name_of(function))
    } else if flags & (CO_GENERATOR | CO_ITERABLE_COROUTINE) == CO_GENERATOR {
        errors::sync_generator(caller, &errors::name_of(function))
    } else {
        return Ok(());
    };
    Err(PyTypeError::new_err(refused))
}

/// Raises TypeError for what `asyncio.gather()` made while no loop ran: it belongs to a loop that nobody drives, and
/// would never be done.
fn refuse_unbound_gathering(awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
    if errors::type_name(awaitable) != "_GatheringFuture" {
        return Ok(());
    }
    // A thread's own loop runs in its calls only, and has what one of them has made.
    let (py, event_loop) = (awaitable.py(), awaitable.call_method0("get_loop")?);
    if event_loop.call_method0("is_running")?.is_truthy()?
        || residents::event_loops(py).iter().any(|it| it.is(&event_loop))
    {
        return Ok(());
    }
    Err(PyTypeError::new_err(
        "run() got what asyncio.gather() made where no loop runs; let it be called on the bridge's loop: \
         run_sync(asyncio.gather, a(), b())",
    ))
}
