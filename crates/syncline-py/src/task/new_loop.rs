//! Making a loop: what every loop of ours gets, whoever makes it.

use super::bridged::BridgedCoroutine;
use super::generators;
use super::revival::{revive_lost, settle_lost_step};
use super::session_task::SessionCoroutine;
use super::starting;
use crate::call::stops::Stops;
use crate::python::errors;
use crate::python::log;
use crate::python::main_end;
use crate::python::once::intern;
use crate::python::per_process::PerProcess;
use crate::python::process;
use crate::python::room;
use crate::python::signals;
use crate::python::version;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};
use syncline_core::sync::{Mutex, lock};

/// Who turns a loop.
pub enum Turner {
    /// A thread that does nothing else.
    Runner,
    /// Whoever waits, from wherever that is.
    Caller(Stops),
}

/// Those that factories of users have made, by weak references, until they are freed. Two threads that turn and close one
/// loop would wait for each other's end for ever.
static MADE: PerProcess<Vec<Py<PyWeakrefReference>>> = PerProcess::new();

fn made() -> &'static Mutex<Vec<Py<PyWeakrefReference>>> {
    MADE.get(|_| Vec::new())
}

/// Whether a factory has returned this loop before. The first of two threads that ask at a time is told that it has not.
fn was_made_before(event_loop: &Bound<'_, PyAny>) -> bool {
    let py = event_loop.py();
    // One to which there can be no weak reference isn't asked for.
    let Ok(reference) = PyWeakrefReference::new(event_loop) else { return false };
    let before: Vec<_> = {
        let mut made = lock(made());
        let before = made.iter().map(|each| each.clone_ref(py)).collect();
        made.push(reference.unbind());
        before
    };
    let (alive, freed): (Vec<_>, Vec<_>) =
        before.iter().map(|each| (each, each.bind(py).upgrade())).partition(|(_, found)| found.is_some());
    let is_freed = |each: &Py<PyWeakrefReference>| freed.iter().any(|(known, _)| known.is(each));
    // What is taken out is dropped without the lock.
    let _gone: Vec<_> = lock(made()).extract_if(.., |each| is_freed(each)).collect();
    alive.iter().any(|(_, found)| found.as_ref().is_some_and(|found| found.is(event_loop)))
}

/// Asks a user's factory for a new loop, as `make`.
pub fn by_factory<'py>(factory: &Bound<'py, PyAny>, turner: Turner) -> PyResult<Bound<'py, PyAny>> {
    finish(factory, turner, was_made_before)
}

/// Asks the factory for a new loop. It logs unhandled errors to our logger, unless the factory has set a handler for
/// them.
pub fn make<'py>(factory: &Bound<'py, PyAny>, turner: Turner) -> PyResult<Bound<'py, PyAny>> {
    finish(factory, turner, |_| false)
}

fn finish<'py>(
    factory: &Bound<'py, PyAny>,
    turner: Turner,
    is_known: impl FnOnce(&Bound<'py, PyAny>) -> bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = factory.py();
    // First, as this fails late in the interpreter's end: there must be no loop by then that nobody would close.
    let handler = exception_handler(py, turner)?;
    let event_loop = factory.call0()?;
    if let Ok(class) = event_loop.cast::<PyType>() {
        let name = errors::name_of(class);
        return Err(PyTypeError::new_err(format!(
            "loop_factory must return a new event loop, and returned the class {name:?}; return {name}(), or give the \
             class itself: loop_factory={name}"
        )));
    }
    if !event_loop.hasattr(intern!(py, "run_forever"))? {
        let kind = errors::type_name(&event_loop);
        return Err(PyTypeError::new_err(format!(
            "loop_factory must return a new event loop, and returned {kind}; give it a function such as \
             uvloop.new_event_loop"
        )));
    }
    if event_loop.call_method0(intern!(py, "is_running"))?.is_truthy()? {
        return Err(PyTypeError::new_err(
            "loop_factory must return a new event loop, and returned one that runs already; to have calls run there: \
             Bridge(loop=...)",
        ));
    }
    if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
        return Err(PyTypeError::new_err(
            "loop_factory must return a new event loop, and returned one that is closed; it has to make one each time \
             that it is called",
        ));
    }
    if is_known(&event_loop) {
        return Err(PyTypeError::new_err(
            "loop_factory must return a new event loop, and returned one that it has returned before; it has to make one \
             each time that it is called",
        ));
    }
    if let Err(error) = prepare(&event_loop, &handler) {
        signals::through(py, || event_loop.call_method0(intern!(py, "close")));
        return Err(error);
    }
    Ok(event_loop)
}

/// Gives the loop what every loop of ours has.
fn prepare<'py>(event_loop: &Bound<'py, PyAny>, handler: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let known = event_loop.getattr_opt(intern!(py, "get_exception_handler"))?.map(|get| get.call0()).transpose()?;
    if known.is_none_or(|known| known.is_none()) {
        event_loop.call_method1(intern!(py, "set_exception_handler"), (handler,))?;
    }
    generators::keep(event_loop)?;
    main_end::attend(py, event_loop)
}

/// The loops' exception handler: logs to "syncline".
fn exception_handler(py: Python<'_>, turner: Turner) -> PyResult<Bound<'_, PyAny>> {
    let logger = log::logger(py)?.unbind();
    let is_finalizing = py.import("sys")?.getattr("is_finalizing")?.unbind();
    let handler = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        let py = args.py();
        let what = args.get_item(1)?;
        if is_for_the_driver(&args.get_item(0)?, &what, &turner)? || is_known_to_a_caller(&what)? {
            return Ok(());
        }
        let mut error = what.get_item("exception").ok().filter(|error| !error.is_none()).map(PyErr::from_value);
        if error.as_ref().is_some_and(|error| process::has_refused(py, error)) {
            return Ok(());
        }
        let message = what.call_method1(intern!(py, "get"), ("message", "unhandled error"))?;
        let message = signals::text_of(&message);
        // At the interpreter's end two things don't work. Python 3.11 may crash in the repr of a task: it frees what
        // the repr calls before it frees tasks. From 3.13 on no traceback can be formatted, as that imports modules.
        let is_late = is_finalizing.call0(py)?.is_truthy(py)?;
        let details = ["task", "future", "handle"].into_iter().filter(|_| !is_late || version::minor() >= 12);
        let details = details.filter_map(|key| what.get_item(key).ok());
        let mut message = details.fold(message, |message, detail| format!("{message}: {}", signals::repr_of(&detail)));
        if is_late
            && version::minor() >= 13
            && let Some(error) = error.take()
        {
            let error = error.value(py);
            message = format!("{message}: {}: {}", errors::type_name(error), signals::text_of(error));
        }
        log::log_to(logger.bind(py), "error", &message, error.as_ref());
        Ok(())
    };
    Ok(PyCFunction::new_closure(py, Some(c"syncline_exception_handler"), None, handler)?.into_any())
}

/// Whether a signal handler raised the error, in the main thread, which drives the loop: asyncio takes it for an error
/// of the callback that it interrupts. Or a thread that turns its own loop is so near its recursion limit that the callback could not
/// be made to its end, and what waits for it would wait for ever. The error is kept, and the loop stopped, so that the wait raises it.
fn is_for_the_driver(event_loop: &Bound<'_, PyAny>, what: &Bound<'_, PyAny>, turner: &Turner) -> PyResult<bool> {
    let py = what.py();
    let get = |key: &str| what.call_method1(intern!(py, "get"), (key,));
    let (error, handle) = (get("exception")?, get("handle")?);
    if error.is_none() || handle.is_none() {
        return Ok(false);
    }
    let error = PyErr::from_value(error);
    if signals::are_handlers(py, &error) {
        let _ = signals::keep(py, error);
    } else if matches!(turner, Turner::Caller(_)) && room::is_loops(py, &error) {
        if settle_lost_step(&handle, &error)? {
            return Ok(true);
        }
        signals::keep_no_room(error);
    } else {
        return Ok(false);
    }
    revive_lost(event_loop);
    match turner {
        Turner::Caller(stops) => stops.stop(event_loop)?,
        Turner::Runner => event_loop.call_method0(intern!(py, "stop")).map(drop)?,
    }
    Ok(true)
}

/// Whether the caller of a call of ours knows already what the handler is told: that a step failed outside of its
/// coroutine (which ends the call), or ended the program, or that a task is still pending whose call has ended.
fn is_known_to_a_caller(what: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = what.py();
    let get = |key: &str| what.call_method1(intern!(py, "get"), (key,));
    let (handle, error, task) = (get("handle")?, get("exception")?, get("task")?);
    if !handle.is_none() && !error.is_none() {
        return settle_lost_step(&handle, &PyErr::from_value(error));
    }
    if starting::is_starting() && handle.is_none() && !error.is_none() {
        return Ok(!error.is_instance_of::<PyException>());
    }
    if task.is_none() || !error.is_none() {
        return Ok(false);
    }
    let coroutine = task.call_method0(intern!(py, "get_coro"))?;
    if let Ok(coroutine) = coroutine.cast::<SessionCoroutine>() {
        // The task was never made to its end: what broke that off is known.
        return Ok(!coroutine.get().session().is_some_and(|session| session.is_task(&task)));
    }
    if starting::starts(&coroutine) {
        return Ok(true);
    }
    let call = coroutine.cast::<BridgedCoroutine>().ok().and_then(|coroutine| coroutine.get().call());
    Ok(call.is_some_and(|call| call.is_settled()))
}

/// Whether somebody has closed the loop.
pub fn was_closed(event_loop: &Bound<'_, PyAny>) -> bool {
    let py = event_loop.py();
    signals::ask(py, || event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy())
}

/// The same for the selector of one that has a selector, as asyncio's have: then it can neither turn nor be closed.
pub fn lost_its_selector(event_loop: &Bound<'_, PyAny>) -> bool {
    let py = event_loop.py();
    signals::ask(py, || {
        let selector = event_loop.getattr_opt(intern!(py, "_selector"))?;
        selector.map_or(Ok(false), |selector| Ok(selector.call_method0(intern!(py, "get_map"))?.is_none()))
    })
}
