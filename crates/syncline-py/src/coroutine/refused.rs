//! The words for what a call can't run: they name the mistake, and show the right call. What is refused is not left
//! un-awaited.

use super::kinds::{CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE, flags_of, is_coroutine};
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::residents;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

const SEVERAL: &str = "run_sync(asyncio.gather, a(), b())";

/// Raises TypeError for what can't be called, where an async function belongs.
#[inline]
pub fn uncallable(caller: &str, given: &Bound<'_, PyAny>) -> PyResult<()> {
    if given.is_callable() { Ok(()) } else { Err(no_async_function(caller, given)?) }
}

#[cold]
fn no_async_function(caller: &str, given: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let py = given.py();
    let takes = format!("{caller}() takes an async function and its arguments");
    let kind = errors::type_name(given);
    Ok(PyTypeError::new_err(if closed_if_coroutine(given)? {
        let name = errors::name_of(given);
        let or = if caller == "run_sync" { format!(", or use run({name}(...))") } else { String::new() };
        format!("{caller}() got a coroutine; give it the async function and its arguments: {caller}({name}, ...){or}")
    } else if let Some(words) = has_no_one_result(caller, given)? {
        words
    } else if given.hasattr(intern!(py, "__await__"))? {
        format!("{takes}, not an awaitable; use run(...) for this {kind}")
    } else {
        format!("{takes}, not {kind}: {caller}(fetch, ...), where `fetch` is an async function")
    }))
}

/// The error for a coroutine that `run` can't run any more.
#[cold]
pub fn used_up(coroutine: &Bound<'_, PyAny>) -> PyErr {
    let name = errors::name_of(coroutine);
    PyRuntimeError::new_err(format!(
        "run() got a coroutine that has already been awaited; make a new one: run({name}(...))"
    ))
}

/// The error for what `run` was given and can't be awaited.
#[cold]
pub fn no_awaitable(given: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    if let Some(words) = has_no_one_result("run", given)? {
        return Ok(PyTypeError::new_err(words));
    }
    generators("run", given, flags_of(given))?;
    let (name, kind) = (errors::name_of(given), errors::type_name(given));
    Ok(PyTypeError::new_err(if given.is_callable() {
        format!("run() takes an awaitable and got the function {name:?}; use run_sync({name}, ...) or run({name}(...))")
    } else if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        format!("run() takes one awaitable, not {kind}; for the results of several: {SEVERAL}")
    } else {
        format!(
            "run() takes an awaitable, such as a coroutine, not {kind}: run(fetch(...)), or run_sync(fetch, ...), where \
             `fetch` is an async function"
        )
    }))
}

/// The error for `run(awaitable, *more)`.
#[cold]
pub fn more_than_one(awaitable: &Bound<'_, PyAny>, more: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let name = errors::name_of(awaitable);
    let first = more.get_item(0)?;
    let is_limit = more.len() == 1 && (first.is_none() || first.extract::<f64>().is_ok());
    for each in more.iter().chain([awaitable.clone()]) {
        closed_if_coroutine(&each)?;
    }
    Ok(PyTypeError::new_err(if is_limit {
        format!("run() takes the time limit by its name: run({name}(...), timeout={})", first.repr()?)
    } else {
        format!("run() takes one awaitable; for the results of several: {SEVERAL}")
    }))
}

/// The words for an object that gives something, but not one result: what is iterated over, entered, or waited for by
/// other means.
fn has_no_one_result(caller: &str, given: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = given.py();
    let name = errors::name_of(given);
    let class = given.get_type();
    Ok(if given.is_instance_of::<PyType>() {
        None
    } else if errors::only_decorates(given) || (class.hasattr(intern!(py, "__aenter__"))? && !given.is_callable()) {
        Some(errors::a_manager(caller, given))
    } else if given.is_callable() {
        None
    } else if class.hasattr(intern!(py, "__anext__"))? {
        let right = if class.hasattr(intern!(py, "__next__"))? {
            " as it is, by `for`".to_owned()
        } else {
            format!(": for item in iterate({name}(...))")
        };
        Some(format!("{caller}() got an async generator, which has no one result; iterate over it{right}"))
    } else if given.is_instance(names::concurrent_future(py)?)? {
        Some(format!("{caller}() got a concurrent.futures.Future; wait for it: future.result()"))
    // SAFETY: the check only compares the type of a live object.
    } else if unsafe { ffi::PyGen_CheckExact(given.as_ptr()) } != 0 {
        Some(format!("{caller}() got a sync generator; iterate over it as it is: for item in {name}(...)"))
    } else {
        None
    })
}

/// Whether it is a coroutine, be it one of `DualCoroutine`, or of a compiler's. That is closed, so that Python does not
/// warn that it "was never awaited".
fn closed_if_coroutine(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (py, class) = (given.py(), given.get_type());
    let is_one = is_coroutine(given)
        || (class.hasattr(intern!(py, "__await__"))?
            && class.hasattr(intern!(py, "send"))?
            && class.hasattr(intern!(py, "close"))?);
    if is_one {
        given.call_method0(intern!(py, "close"))?;
    }
    Ok(is_one)
}

/// Raises TypeError for what `call` can't call, or should not.
pub fn all_but_sync(function: &Bound<'_, PyAny>) -> PyResult<()> {
    let flags = flags_of(function);
    if flags & CO_COROUTINE != 0 {
        return Err(errors::not_sync(function, "it was not called"));
    }
    generators("call", function, flags)?;
    if function.is_callable() {
        return Ok(());
    }
    Err(no_sync_function("call", function)?)
}

/// The error for what can't be called, where a sync function belongs.
#[cold]
fn no_sync_function(caller: &str, given: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let takes = format!("{caller}() takes a sync function and its arguments");
    Ok(PyTypeError::new_err(if closed_if_coroutine(given)? {
        let name = errors::name_of(given);
        let right =
            if caller == "call" { format!("run_sync({name}, ...)") } else { format!("it as it is: await {name}(...)") };
        format!("{takes}, and got a coroutine; use {right}")
    } else {
        format!("{takes}, not {}", errors::type_name(given))
    }))
}

/// Raises TypeError for an `async def`, or a method that is one, where another thread is to call it, and for what can't be
/// called.
pub fn async_in_a_thread(caller: &str, function: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the check only compares the type of a live object.
    let is_function = unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0;
    // Other objects would take long to ask.
    let is_asked = is_function || function.get_type().is(names::method_type(function.py())?);
    match if is_asked { flags_of(function) & (CO_COROUTINE | CO_ASYNC_GENERATOR) } else { 0 } {
        0 if function.is_callable() => Ok(()),
        0 => Err(no_sync_function(caller, function)?),
        flags => Err(errors::async_in_a_thread(caller, function, flags == CO_ASYNC_GENERATOR)),
    }
}

/// Raises TypeError for generator functions, sync and async: a call of them makes no awaitable.
pub fn generators(caller: &str, function: &Bound<'_, PyAny>, flags: u32) -> PyResult<()> {
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
pub fn unbound_gathering(awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
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
    Err(PyTypeError::new_err(format!(
        "run() got what asyncio.gather() made where no loop runs; let it be called on the bridge's loop: {SEVERAL}"
    )))
}
