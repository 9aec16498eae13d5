//! Python objects that the extension looks up, each once and at its first use, not at `import syncline`.

use crate::python::once::{Once, intern};
use crate::python::version;
use pyo3::exceptions::{PyAttributeError, PyImportError};
use pyo3::prelude::*;
use pyo3::types::PyType;

macro_rules! lazy {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static CELL: Once<Py<PyAny>> = Once::new();
            Ok(CELL.get_or_try_init(py, || find(py, $module, $attribute))?.bind(py))
        }
    )*};
}

#[cold]
fn find(py: Python<'_>, module: &str, attribute: &str) -> PyResult<Py<PyAny>> {
    look_up(py, module, attribute).map_err(|error| half_imported(py, &error).unwrap_or(error))
}

/// What says more than that error of a module which this thread is in the middle of importing: a signal handler, or code
/// that the import runs, makes a call that needs it.
fn half_imported(py: Python<'_>, error: &PyErr) -> Option<PyErr> {
    let value = error.value(py);
    let module = if error.is_instance_of::<PyAttributeError>(py) {
        value.getattr("obj").ok()?
    } else if error.is_instance_of::<PyImportError>(py) {
        // Not by `find`, which at the interpreter's end would come here again.
        py.import("sys").ok()?.getattr("modules").ok()?.get_item(value.getattr("name").ok()?).ok()?
    } else {
        return None;
    };
    let is_under_way = module.getattr("__spec__").ok()?.getattr("_initializing").ok()?.is_truthy().ok()?;
    let name = module.getattr("__name__").ok().filter(|_| is_under_way)?;
    let message = format!(
        "a call needs the module '{name}', and comes in the middle of its import, which can't go on before the call has \
         ended: by a signal handler, or by code that the import runs; make it after the import, or import {name} before"
    );
    let class = py.import("syncline._core").ok()?.getattr("DeadlockError").ok()?;
    let explained = PyErr::from_value(class.call1((message,)).ok()?);
    explained.set_cause(py, Some(error.clone_ref(py)));
    Some(explained)
}

fn look_up(py: Python<'_>, module: &str, attribute: &str) -> PyResult<Py<PyAny>> {
    // First the package as a whole. While another thread imports that, each of the two would wait for a module that the
    // other one has begun, and Python ends such a circle by an error in one of them.
    if let Some((package, _)) = module.split_once('.') {
        py.import(package)?;
    }
    let module = py.import(module)?.into_any();
    Ok(attribute.split('.').try_fold(module, |object, name| object.getattr(name))?.unbind())
}

lazy! {
    task = "asyncio"."Task";
    set_task_name = "asyncio"."Task.set_name";
    all_tasks = "asyncio"."all_tasks";
    asyncio_wait = "asyncio"."wait";
    asyncio_sleep = "asyncio"."sleep";
    wait_for = "asyncio"."wait_for";
    cancelled_error = "asyncio"."CancelledError";
    selector_event_loop = "asyncio"."SelectorEventLoop";
    base_create_task = "asyncio"."BaseEventLoop.create_task";
    base_set_task_factory = "asyncio"."BaseEventLoop.set_task_factory";
    base_is_running = "asyncio"."BaseEventLoop.is_running";
    base_set_debug = "asyncio"."BaseEventLoop.set_debug";
    rlock = "_thread"."RLock";
    get_asyncgen_hooks = "sys"."get_asyncgen_hooks";
    set_asyncgen_hooks = "sys"."set_asyncgen_hooks";
    get_referrers = "gc"."get_referrers";
    set_running_loop = "asyncio.events"."_set_running_loop";
    get_running_loop = "asyncio.events"."_get_running_loop";
    enter_task = "asyncio.tasks"."_enter_task";
    register_task = "asyncio.tasks"."_register_task";
    unregister_task = "asyncio.tasks"."_unregister_task";
    register_eager_task = "asyncio.tasks"."_register_eager_task";
    unregister_eager_task = "asyncio.tasks"."_unregister_eager_task";
    leave_task = "asyncio.tasks"."_leave_task";
    is_coroutine = "asyncio"."iscoroutine";
    trio_loop = "syncline._trio"."TrioLoop";
    trio_cancelled = "trio"."Cancelled";
    library_variable = "sniffio"."current_async_library_cvar";
    in_trio_run = "trio.lowlevel"."in_trio_run";
    in_trio_task = "trio.lowlevel"."in_trio_task";
    trio_effective_deadline = "trio"."current_effective_deadline";
    trio_token = "trio.lowlevel"."current_trio_token";
    trio_task = "trio.lowlevel"."current_task";
    trio_guest = "syncline._trio"."TrioGuest";
    trio_new_cancelled = "syncline._trio"."new_cancelled";
    trio_wait = "syncline._trio"."wait_for";
    current_task = "asyncio"."current_task";
    work = "syncline._workers"."work";
    origin = "syncline._workers"."origin";
    anyio_sender = "syncline._anyio"."sender";
    anyio_is_cancelled = "syncline._anyio"."is_cancelled";
    anyio_loop_token = "syncline._anyio"."LoopToken";
    anyio_scope = "syncline._anyio"."scope";
    anyio_thread_locals = "syncline._anyio"."thread_locals";
    asgiref_move_here = "syncline._asgiref"."move_here";
    asgiref_moved_back = "syncline._asgiref"."moved_back";
    asgiref_stored = "syncline._asgiref"."Stored";
    asgiref_executors_variable = "syncline._asgiref"."executors_variable";
    stack_of = "syncline._diagnosis"."stack_of";
    blocked_on_lock = "syncline._diagnosis"."blocked_on_lock";
    way_into_a_circle = "syncline._diagnosis"."way_into_a_circle";
    is_only_worker = "syncline._pools"."is_only_worker";
    blocked_loop_is_needed = "syncline._diagnosis"."blocked_loop_is_needed";
    thread_of_loop = "syncline._diagnosis"."thread_of_loop";
    sleeps_for_good = "syncline._diagnosis"."sleeps_for_good";
    own_executor_is_needed = "syncline._diagnosis"."own_executor_is_needed";
    own_stall_report = "syncline._diagnosis"."own_stall_report";
    explain_loop_mixup = "syncline._diagnosis"."explain_loop_mixup";
    explain_patched_threads = "syncline._diagnosis"."explain_patched_threads";
    blocks_loop = "syncline._in_loop"."blocks";
    carry = "syncline._nestable"."carry";
    forget_carriers = "syncline._carriers"."forget_thread";
    limiter_statistics = "syncline._limits"."ThreadLimiterStatistics";
    would_block = "syncline._threads"."WouldBlock";
    guard = "syncline._onto"."Guard";
    watch_standing = "syncline._standing"."watch";
    watch_loop = "syncline._watcher"."watch";
    stir_watcher = "syncline._watcher"."stir";
    watched_has_ended = "syncline._watcher"."leave";
    outlive_executors = "syncline._last"."outlive_executors";
    is_waiting_for_threads = "syncline._last"."is_waiting_for_threads";
    closing_tasks = "syncline._nested"."closing_tasks";
    heal_groups = "syncline._groups_healed"."heal_groups";
    close_later = "syncline._nested"."close_later";
    close_dropped = "syncline._nested"."close_dropped";
    within = "syncline._nested"."within";
    warn_of_blocking = "syncline._nested"."warn_of_blocking";
    keeping_tasks = "syncline._keepers"."keeping_tasks";
    close_kept = "syncline._keepers"."close_kept";
    caller_loop = "syncline._loops"."CallerLoop";
    linked_stack = "syncline._logical"."linked";
    stack_of_parked = "syncline._logical"."stack_of_parked";
    step_of = "syncline._logical"."step";
    new_copy = "syncline._visible"."new_copy";
    show_tasks = "syncline._visible"."show_tasks";
    show_calls = "syncline._visible"."show_calls";
    is_shown = "syncline._visible"."is_shown";
    make_shown = "syncline._visible"."make_shown";
    add_waiter = "syncline._visible"."add_waiter";
    drop_waiter = "syncline._visible"."drop_waiter";
    shown_task = "syncline._visible"."ShownTask";
    syncline_task = "syncline._visible"."syncline_task";
    handler_codes = "syncline._signals"."handler_codes";
    thread = "threading"."Thread";
    context = "contextvars"."Context";
    get_ident = "_thread"."get_ident";
    current_thread = "threading"."current_thread";
    import_lock_held = "_imp"."lock_held";
    get_logger = "logging"."getLogger";
    modules = "sys"."modules";
    getframe = "sys"."_getframe";
    partial = "functools"."partial";
    context_decorator = "contextlib"."ContextDecorator.__call__";
    async_context_decorator = "contextlib"."AsyncContextDecorator.__call__";
    dual_decorator = "syncline._dual"."DualContextManager.__call__";
    method_type = "types"."MethodType";
    generic_alias = "types"."GenericAlias";
    async_generator_type = "types"."AsyncGeneratorType";
    concurrent_future = "concurrent.futures"."Future";
}

/// Whether tasks can start eagerly (Python 3.12 and later).
pub fn has_eager_tasks(_py: Python<'_>) -> bool {
    version::minor() >= 12
}

/// The identifier of this thread, as `threading` gives it.
pub fn thread_ident(py: Python<'_>) -> PyResult<u64> {
    get_ident(py)?.call0()?.extract()
}

/// The event loop that runs in this thread, if any.
pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let running = get_running_loop(py)?.call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// The function inside of a `functools.partial`; `None` for anything else.
pub fn inside_partial<'py>(function: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = function.py();
    let is_partial = partial(py).and_then(|partial| function.is_instance(partial)).unwrap_or(false);
    if is_partial { function.getattr(intern!(py, "func")).ok() } else { None }
}

/// `cls[item]`, as annotations need it: an alias that makes instances of the same class.
pub fn parametrized<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    generic_alias(class.py())?.call1((class, item))
}
