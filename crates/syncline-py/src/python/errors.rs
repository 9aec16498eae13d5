//! The exceptions that syncline raises, and the one place that words its errors.

use crate::python::names;
use crate::python::once::{Once, intern};
use pyo3::exceptions::{PyBaseException, PyException, PyOSError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple, PyType};

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

/// For a call of whose coming a loop that runs on could not be told.
pub fn unheard(py: Python<'_>, name: &str, event_loop: Option<&Bound<'_, PyAny>>) -> PyErr {
    let kind = event_loop.map_or_else(|| "its loop".to_owned(), |event_loop| type_name(event_loop));
    runner_closed(
        py,
        format!(
            "the runner {name:?} could not be told of the call, which has not begun: call_soon_threadsafe of {kind} failed"
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

/// For a step of an iterator, generator or manager whose caller has stopped waiting for the one before.
pub fn step_under_way() -> PyErr {
    PyRuntimeError::new_err(
        "an earlier step of it is still cleaning up, which nobody waits for any more, after a second Ctrl-C or the end of \
         cleanup_timeout; close it, or drop it, and begin a new one",
    )
}

const SHUTTING_DOWN: &str = "the interpreter is shutting down and no loop can run any more; make the call earlier, \
                             for instance in a `with` block or a function registered with atexit";

pub fn shutting_down() -> PyErr {
    PyRuntimeError::new_err(SHUTTING_DOWN)
}

/// Whether this is what calls raise that a closing bridge, or the exit, refuses or cuts short.
pub fn are_of_closing(py: Python<'_>, error: &PyErr) -> bool {
    runtime(py, &CLOSED).is_ok_and(|closed| error.is_instance(py, &closed))
        || is_runtime_error(py, error, SHUTTING_DOWN)
}

/// For a function that was given to `run_sync` or the like (`caller`), and returned `made`, which is no awaitable.
pub fn not_async(caller: &str, function: &Bound<'_, PyAny>, made: &Bound<'_, PyAny>) -> PyErr {
    let (name, kind) = (name_of(function), type_name(made));
    let has = |method: &str| made.hasattr(method).unwrap_or(false);
    PyTypeError::new_err(if only_decorates(function) {
        a_manager(caller, function)
    } else if has("__anext__") && has("__next__") {
        format!(
            "{caller}() got {name:?}, of which nothing has run; sync code iterates as it is: for item in {name}(...)"
        )
    } else if has("__anext__") || has("__aiter__") {
        no_one_result(caller, &name)
    } else if has("__aenter__") {
        format!("{caller}() got {name:?}, which makes a context manager; enter it: with enter({name}(...)) as value")
    } else if made.cast::<PyIterator>().is_ok() && has("gi_code") {
        sync_generator(caller, &name)
    } else if is_async_function(made) {
        let inner = name_of(made);
        format!(
            "{caller}() got the sync function {name:?}, which has run and returned the async function {inner:?} without \
             calling it; use {caller}({inner}, ...)"
        )
    } else {
        format!(
            "{caller}() got the sync function {name:?}; call it directly: {name}(...). This call of it has run: what it \
             returns had to be seen, and was no awaitable but {kind}. Where it needs the bridge's loop: call({name}, ...)"
        )
    })
}

fn is_async_function(made: &Bound<'_, PyAny>) -> bool {
    let py = made.py();
    let ask = || py.import("inspect")?.call_method1("iscoroutinefunction", (made,))?.extract();
    ask().unwrap_or(false)
}

/// For an error that came of calling `function`. A context manager of contextlib's, or of ours, can be called, but only to
/// decorate a function: then the error says so. Any other one is returned as it is.
#[cold]
pub fn of_a_manager(caller: &str, function: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(function.py()) && only_decorates(function) {
        return PyTypeError::new_err(a_manager(caller, function));
    }
    error
}

/// Whether it is a context manager that a call makes a decorator of, and nothing else.
pub fn only_decorates(given: &Bound<'_, PyAny>) -> bool {
    let py = given.py();
    let Ok(call) = given.get_type().getattr(intern!(py, "__call__")) else { return false };
    let of = [names::context_decorator, names::async_context_decorator, names::dual_decorator];
    of.iter().any(|known| known(py).is_ok_and(|known| call.is(known)))
}

/// The message for a context manager in the place of a function or of a coroutine.
pub fn a_manager(caller: &str, manager: &Bound<'_, PyAny>) -> String {
    let class = manager.get_type();
    if class.hasattr(intern!(manager.py(), "__enter__")).unwrap_or(false) {
        return format!("{caller}() got a context manager; enter it as it is, by `with`");
    }
    format!("{caller}() got an async context manager; {}", to_be_entered(manager))
}

/// For an async function that was given to `call`.
pub fn not_sync(function: &Bound<'_, PyAny>, became: &str) -> PyErr {
    let name = name_of(function);
    PyTypeError::new_err(format!(
        "call() takes sync functions, and {name:?} is async ({became}); use run_sync({name}, ...)"
    ))
}

/// For an async function that a worker thread was to call.
#[cold]
pub fn async_in_a_thread(caller: &str, function: &Bound<'_, PyAny>, is_generator: bool) -> PyErr {
    let name = name_of(function);
    let right = if is_generator { format!("async for item in {name}(...)") } else { format!("await {name}(...)") };
    PyTypeError::new_err(format!(
        "{caller}() takes sync functions, and {name:?} is async (it was not called); use it as it is: {right}"
    ))
}

/// The message for an async generator, which `run_sync` and the like can't run.
pub fn no_one_result(caller: &str, name: &str) -> String {
    format!(
        "{caller}() got the async generator function {name:?}, which has no one result; iterate over what it makes: for \
         item in iterate({name}(...))"
    )
}

/// The message for a sync generator function: to call it runs none of its code.
pub fn sync_generator(caller: &str, name: &str) -> String {
    format!(
        "{caller}() got the sync generator function {name:?}, whose code has not run; iterate over what it makes: for item \
         in {name}(...)"
    )
}

/// For a TypeError that the call of an async function has raised, before any of its code ran. If the function has no
/// parameter `timeout` and was given one, the time limit was meant for us: the error says how to set it. Any other
/// error is returned as it is.
pub fn without_timeout(
    caller: &str,
    function: &Bound<'_, PyAny>,
    kwargs: Option<&Bound<'_, PyDict>>,
    error: PyErr,
) -> PyErr {
    let py = function.py();
    let is_given = kwargs.is_some_and(|kwargs| kwargs.contains("timeout").unwrap_or(false));
    let text = error.value(py).to_string();
    if !(is_given && error.is_instance_of::<PyTypeError>(py) && text.ends_with("unexpected keyword argument 'timeout'"))
    {
        return error;
    }
    let (name, value) = (name_of(function), kwargs.and_then(|kwargs| kwargs.get_item("timeout").ok().flatten()));
    let value = value.map_or_else(|| "...".to_owned(), |value| value.to_string());
    PyTypeError::new_err(format!(
        "{text}; {caller}() passes all arguments on, so a time limit is set by run({name}(...), timeout={value})"
    ))
}

/// For a method such as `__anext__` that must return an awaitable, and returned `made`.
pub fn not_awaitable(name: &str, made: &Bound<'_, PyAny>) -> PyErr {
    let kind = type_name(made);
    PyTypeError::new_err(format!(
        "{name}() must return an awaitable, as an `async def` method does; it returned {kind}"
    ))
}

/// For a task factory that has returned `made`.
pub fn not_a_task(made: &Bound<'_, PyAny>) -> PyErr {
    let kind = type_name(made);
    PyTypeError::new_err(format!(
        "the task factory of the loop must return the task that it makes, as in `return asyncio.Task(coro, loop=loop, \
         **kwargs)`; it returned {kind}"
    ))
}

/// What to call a function in a message.
pub fn name_of(function: &Bound<'_, PyAny>) -> String {
    let py = function.py();
    if let Ok(name) = function.getattr(intern!(py, "__name__")).and_then(|name| name.extract::<String>()) {
        return name;
    }
    names::inside_partial(function).map_or_else(|| type_name(function), |inner| name_of(&inner))
}

/// What to do with an async context manager.
pub fn to_be_entered(manager: &Bound<'_, PyAny>) -> String {
    let made_by = manager.getattr("func").map_or_else(|_| name_of(manager), |function| name_of(&function));
    format!("enter it: with enter({made_by}(...)) as value")
}

pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    let name = object.get_type().getattr(intern!(object.py(), "__name__"));
    name.and_then(|name| name.extract()).unwrap_or_else(|_| "object".to_owned())
}

/// An OSError with its number, of which Python makes the right subclass.
#[cfg(target_os = "linux")]
pub fn from_errno(errno: rustix::io::Errno) -> PyErr {
    PyOSError::new_err((errno.raw_os_error(), words_of(&std::io::Error::from(errno))))
}

/// The same for a file, which the message names as that of `open` does.
pub fn of_file(error: std::io::Error, path: &str) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, words_of(&error), path.to_owned())),
        None => error.into(),
    }
}

fn words_of(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

/// The exception object, with its traceback. Before Python 3.12 PyO3 keeps the traceback apart, and the object has none
/// until it is raised.
pub fn object<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyBaseException> {
    error.clone_ref(py).into_value(py).into_bound(py)
}

/// For a wait, in a coroutine, for what another thread does, on a loop that other threads can't wake.
pub fn loop_without_threads(event_loop: &Bound<'_, PyAny>) -> PyErr {
    PyRuntimeError::new_err(format!(
        "this waits for another thread, and {} can't be woken by other threads: its call_soon_threadsafe failed; call \
         the function directly, or await this on another loop",
        type_name(event_loop)
    ))
}

/// Gives an error the context that `raise` would give it: the exception that the calling code handles just now. One that
/// has a context already keeps it.
pub fn note_what_is_handled(py: Python<'_>, error: &PyErr) {
    // SAFETY: attached.
    let handled = unsafe { ffi::PyErr_GetHandledException() };
    // SAFETY: a new reference, or null, which is no error.
    let Some(handled) = (unsafe { Bound::from_owned_ptr_or_opt(py, handled) }) else { return };
    let error = object(py, error).into_any();
    if context_of(&error).is_some() {
        return;
    }
    // No error is its own context, by whatever way round.
    let mut next = Some(handled.clone());
    while let Some(each) = next {
        if each.is(&error) {
            return;
        }
        next = context_of(&each);
    }
    set_context(&error, handled);
}

/// An exception's traceback. Neither this nor what follows asks the class, which may be a frozen dataclass, or refuse for
/// reasons of its own.
pub fn traceback_of<'py>(error: &Bound<'py, PyBaseException>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: an exception, and alive.
    let traceback = unsafe { ffi::PyException_GetTraceback(error.as_ptr()) };
    // SAFETY: a new reference, or null, which is no error.
    unsafe { Bound::from_owned_ptr_or_opt(error.py(), traceback) }
}

/// An error that Python code of ours has raised about what a user gave, without the frames of that code.
pub fn without_frames(py: Python<'_>, error: PyErr) -> PyErr {
    let object = error.into_value(py).into_bound(py);
    // What is refused is no traceback, and None is one.
    let _ = set_traceback(&object, &py.None().into_bound(py));
    PyErr::from_value(object.into_any())
}

/// Gives an exception another traceback. TypeError for what is none.
pub fn set_traceback(error: &Bound<'_, PyBaseException>, traceback: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: an exception, and an object, both alive; what is no traceback is refused.
    match unsafe { ffi::PyException_SetTraceback(error.as_ptr(), traceback.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(error.py())),
    }
}

/// Gives an exception another context.
pub fn set_context(error: &Bound<'_, PyAny>, context: Bound<'_, PyAny>) {
    // SAFETY: both are exceptions, and alive; the reference to the second one is given away.
    unsafe { ffi::PyException_SetContext(error.as_ptr(), context.into_ptr()) };
}

fn context_of<'py>(error: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: an exception, and alive.
    let context = unsafe { ffi::PyException_GetContext(error.as_ptr()) };
    // SAFETY: a new reference, or null, which is no error.
    unsafe { Bound::from_owned_ptr_or_opt(error.py(), context) }
}

/// Whether the interpreter has ended so far that only what lies in it still is freed: nothing can be imported, and PyO3
/// panics where it is asked for the object of an error that it has not made yet.
pub fn is_interpreter_gone() -> bool {
    // SAFETY: may be called at any time.
    unsafe { ffi::Py_IsInitialized() == 0 }
}

/// Sets `error.__cause__`, as `raise error from cause` does.
pub fn from_cause(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    if is_interpreter_gone() {
        return error;
    }
    error.set_cause(py, Some(cause));
    error
}

/// Whether a thread could not be started since the interpreter is shutting down (Python 3.12 and later).
pub fn is_too_late(py: Python<'_>, error: &PyErr) -> bool {
    is_runtime_error(py, error, "interpreter shutdown")
}

/// Whether this is a RuntimeError whose message has these words. Its `str` is not asked: there Python looks after
/// signals, and what a handler raised would be lost.
pub fn is_runtime_error(py: Python<'_>, error: &PyErr, words: &str) -> bool {
    let message = || error.value(py).getattr(intern!(py, "args"))?.get_item(0)?.extract::<String>();
    error.is_instance_of::<PyRuntimeError>(py) && message().is_ok_and(|message| message.contains(words))
}

/// Runs `work` in a destructor; not at all if there is no interpreter any more. An exception that travels up the stack
/// meanwhile is put aside: it is neither lost, nor taken for one that `work` has raised.
pub fn in_destructor(work: impl FnOnce(Python<'_>)) {
    Python::try_attach(|py| {
        let raised = PyErr::take(py);
        work(py);
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}
