//! What has to be done when a thread ends.
//!
//! Python clears the dict of a thread's state in the thread itself, while it is attached and before `join` returns.
//! No later moment would do: the thread can still close a loop of its own then. So an object of ours lies in that
//! dict, and its drop does what was deferred. (`threading.local` works the same way.)
//!
//! Invariants:
//! 1. What is deferred while the thread ends is done, too.
//! 2. Nothing that was deferred is done in three cases: in a forked child, which clears the states of threads that only
//!    its parent has; once the exit has begun, when the interpreter may kill a thread wherever it is; and where another
//!    thread has the dict as its thread ends, such as by `gc.get_objects()`, and drops it later. Then what was deferred is
//!    leaked, and so is what thread-locals hold (`Leaky`).
//! 3. Nothing can be deferred once the dict is cleared: a new one that code makes then (the finalizer of a thread-local
//!    value) is never cleared. `is_over` says so.

use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::threads::thread_key;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakref, PyWeakrefMethods};
use std::cell::Cell;
use syncline_core::sync::{Mutex, lock, take};

type Deferral = Box<dyn FnOnce(Python<'_>) + Send>;

#[pyclass(frozen, module = "syncline._core")]
struct ThreadEnd {
    closers: Mutex<Vec<Deferral>>,
    epoch: u32,
    /// Its thread's key.
    thread: u64,
}

impl ThreadEnd {
    fn run(&self, py: Python<'_>) {
        IS_ENDING.set(true);
        // By 1: until nothing more was deferred by what runs here.
        loop {
            let closers = take(&self.closers);
            if closers.is_empty() {
                break;
            }
            closers.into_iter().for_each(|closer| closer(py));
        }
        IS_ENDING.set(false);
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        if self.epoch != process::epoch() || process::is_exiting() || self.thread != thread_key() {
            // By 2: not even freed.
            std::mem::forget(take(&self.closers));
            return;
        }
        // Python drops us while it clears the thread's state, attached.
        Python::try_attach(|py| {
            self.run(py);
            CLEARED.set(state_number());
            if let Err(error) = forget_ghost(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

thread_local! {
    static IS_ENDING: Cell<bool> = const { Cell::new(false) };
    /// The number of the state whose dict was cleared here last. C code may give its thread another one later on.
    static CLEARED: Cell<i64> = const { Cell::new(0) };
}

/// The number of this thread's state, which no other one has had. Attached only.
fn state_number() -> i64 {
    // SAFETY: attached, so there is a state.
    let state = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: it is this thread's.
    unsafe { ffi::PyThreadState_GetID(state) }
}

/// Whether nothing can be deferred any more (by 3). Where nothing was deferred before, this is seen by what runs: in a thread
/// that `threading` does not know, or not any more, a finalizer that nothing has called.
pub fn is_over(py: Python<'_>) -> PyResult<bool> {
    if CLEARED.get() == state_number() {
        return Ok(true);
    }
    let (threading, known) = in_threading(py)?;
    if !known.is_none() && !known.is_instance(&threading.getattr("_DummyThread")?)? {
        return Ok(false);
    }
    let Ok(mut frame) = names::getframe(py)?.call0() else { return Ok(false) };
    loop {
        let back = frame.getattr("f_back")?;
        if back.is_none() {
            return is_finalizer(&frame);
        }
        frame = back;
    }
}

/// Whether the frame, below which there is none, is one of a finalizer, a generator that is closed as nobody has it, or a
/// callback of a weak reference.
fn is_finalizer(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    const GENERATORS: u32 = 0x20 | 0x80 | 0x200; // inspect.CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
    let code = frame.getattr("f_code")?;
    if code.getattr("co_name")?.eq("__del__")? || code.getattr("co_flags")?.extract::<u32>()? & GENERATORS != 0 {
        return Ok(true);
    }
    let is_dead = |object: &Bound<'_, PyAny>| object.cast::<PyWeakref>().is_ok_and(|weak| weak.upgrade().is_none());
    // Under another name, or decorated.
    let is_finalized = |object: &Bound<'_, PyAny>| {
        let finalizer = object.get_type().getattr("__del__").and_then(|finalizer| finalizer.getattr("__code__"));
        finalizer.is_ok_and(|finalizer| finalizer.is(&code))
    };
    Ok(arguments(frame, &code)?.iter().any(|object| is_dead(object) || is_finalized(object)))
}

fn arguments<'py>(frame: &Bound<'py, PyAny>, code: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    const HAS_REST: u32 = 0x04; // inspect.CO_VARARGS
    let count = |name: &str| code.getattr(name)?.extract::<usize>();
    let named = count("co_argcount")? + count("co_kwonlyargcount")?;
    let has_rest = code.getattr("co_flags")?.extract::<u32>()? & HAS_REST != 0;
    let locals = frame.getattr("f_locals")?;
    let mut found = Vec::new();
    for (position, name) in code.getattr("co_varnames")?.try_iter()?.take(named + usize::from(has_rest)).enumerate() {
        // It may be deleted by now.
        let Ok(value) = locals.get_item(name?) else { continue };
        match value.cast::<PyTuple>() {
            Ok(rest) if position == named => found.extend(rest.iter()),
            _ => found.push(value),
        }
    }
    // Up to Python 3.12 it is a copy, which the frame keeps.
    if let Ok(copy) = locals.cast::<PyDict>() {
        copy.clear();
    }
    Ok(found)
}

/// Whether this thread is at its end, and does what was deferred: nothing should be kept for later calls any more.
pub fn is_ending() -> bool {
    IS_ENDING.get()
}

/// At this point `threading` has removed this thread from its list. If the code that has run here called
/// `current_thread()`, as logging does, `threading` has listed a dummy thread for it, a ghost that nothing would
/// remove. This removes it.
fn forget_ghost(py: Python<'_>) -> PyResult<()> {
    let (threading, known) = in_threading(py)?;
    if !known.is_instance(&threading.getattr("_DummyThread")?)? {
        return Ok(());
    }
    // Newer versions of Python keep an object in a thread-local that removes the dummy when it is freed. It would be
    // freed too late, with the last of the thread's locals.
    let _ = threading.getattr("_thread_local_info").and_then(|info| info.delattr("_track_dummy_thread_ref"));
    threading.getattr("_active")?.call_method1("pop", (names::thread_ident(py)?, py.None())).map(drop)
}

/// `threading`, and what that knows of this thread: `None` or a dummy, where it has not begun it or has seen its end.
fn in_threading(py: Python<'_>) -> PyResult<(Bound<'_, PyModule>, Bound<'_, PyAny>)> {
    let threading = py.import("threading")?;
    let known = threading.getattr("_active")?.call_method1("get", (names::thread_ident(py)?,))?;
    Ok((threading, known))
}

fn of_this_thread(py: Python<'_>) -> Option<Bound<'_, PyDict>> {
    // SAFETY: attached.
    let dict = unsafe { ffi::PyThreadState_GetDict() };
    // SAFETY: a borrowed reference to the thread state's dict, or null without an exception.
    let dict = unsafe { Bound::from_borrowed_ptr_or_opt(py, dict) };
    dict.and_then(|dict| dict.cast_into::<PyDict>().ok())
}

/// Has `closer` run in this thread when it ends.
fn defer(py: Python<'_>, closer: impl FnOnce(Python<'_>) + Send + 'static) -> PyResult<()> {
    let Some(dict) = of_this_thread(py) else { return Ok(()) };
    let key = intern!(py, "syncline");
    let known = dict.get_item(key)?.and_then(|known| known.cast_into::<ThreadEnd>().ok());
    let known = known.filter(|known| known.get().epoch == process::epoch());
    let end = match known {
        Some(end) => end,
        None => {
            let end = ThreadEnd { closers: Mutex::default(), epoch: process::epoch(), thread: thread_key() };
            let end = Bound::new(py, end)?;
            dict.set_item(key, &end)?;
            end
        }
    };
    lock(&end.get().closers).push(Box::new(closer));
    Ok(())
}

/// A thread-local note that a certain thing was deferred, so that this is done once in a thread. In a forked child it
/// has to be done again.
pub struct Deferred(Cell<Option<u32>>);

impl Deferred {
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Has `closer` run in this thread when it ends, unless that is deferred already.
    pub fn ensure(&self, py: Python<'_>, closer: fn(Python<'_>)) -> PyResult<()> {
        if self.0.replace(Some(process::epoch())) == Some(process::epoch()) {
            return Ok(());
        }
        defer(py, closer)
    }

    /// To be called by the closer: from now on the thing has to be deferred again.
    pub fn forget(&self) {
        self.0.set(None);
    }
}

/// Runs what this thread has deferred at once. For the main thread at exit: its state is cleared too late for that.
pub fn run_now(py: Python<'_>) {
    let end = of_this_thread(py).and_then(|dict| dict.get_item(intern!(py, "syncline")).ok().flatten());
    if let Some(Ok(end)) = end.map(|end| end.cast_into::<ThreadEnd>())
        && end.get().epoch == process::epoch()
    {
        end.get().run(py);
    }
}
