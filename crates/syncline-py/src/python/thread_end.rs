//! What has to be done when a thread ends.
//!
//! The thread state's own dict is cleared in the thread itself, while it is still attached and before `join` returns:
//! the only moment at which a thread can still close a loop of its own. (`threading.local` works the same way.)
//!
//! Invariants:
//! 1. What is deferred while the thread ends is done, too. 2. Where nothing can be done any more (a forked child clears the
//!    states of threads that only its parent has; a thread that ends while the interpreter does may be killed wherever it
//!    is), what was deferred is left as it is, and so is what thread-locals hold (`Leaky`).

use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::Cell;
use syncline_core::sync::{Mutex, lock, take};

type Deferral = Box<dyn FnOnce(Python<'_>) + Send>;

#[pyclass(frozen, module = "syncline._core")]
struct ThreadEnd {
    closers: Mutex<Vec<Deferral>>,
    process: u32,
}

impl ThreadEnd {
    fn run(&self, py: Python<'_>) {
        IS_ENDING.set(true);
        // By 1.
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
        if self.process != std::process::id() || process::is_exiting() {
            // By 2.
            std::mem::forget(take(&self.closers));
            return;
        }
        // Python drops us while it clears the thread's state, attached.
        Python::try_attach(|py| {
            self.run(py);
            if let Err(error) = forget_ghost(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

thread_local! {
    static IS_ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread does what it has deferred to its end: what is kept for later now has no later.
pub fn is_ending() -> bool {
    IS_ENDING.get()
}

/// `threading` has forgotten this thread already: `current_thread()` in the code that ran now (logging calls it) has
/// made up a new one, which nothing would end.
fn forget_ghost(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let active = threading.getattr("_active")?;
    let ident = names::get_ident(py)?.call0()?;
    let known = active.call_method1("get", (&ident,))?;
    if !known.is_instance(&threading.getattr("_DummyThread")?)? {
        return Ok(());
    }
    // What later versions keep in the thread to forget the ghost by; it would live on with the thread's last locals.
    let _ = threading.getattr("_thread_local_info").and_then(|info| info.delattr("_track_dummy_thread_ref"));
    active.call_method1("pop", (ident, py.None())).map(drop)
}

fn of_this_thread(py: Python<'_>) -> Option<Bound<'_, PyDict>> {
    // SAFETY: attached.
    let dict = unsafe { ffi::PyThreadState_GetDict() };
    // SAFETY: a borrowed reference to the thread state's dict, or null without an exception.
    let dict = unsafe { Bound::from_borrowed_ptr_or_opt(py, dict) };
    dict.and_then(|dict| dict.cast_into::<PyDict>().ok())
}

/// Runs `closer` in this thread when it ends.
fn defer(py: Python<'_>, closer: impl FnOnce(Python<'_>) + Send + 'static) -> PyResult<()> {
    let Some(dict) = of_this_thread(py) else { return Ok(()) };
    let key = intern!(py, "syncline");
    let known = dict.get_item(key)?.and_then(|known| known.cast_into::<ThreadEnd>().ok());
    let known = known.filter(|known| known.get().process == std::process::id());
    let end = match known {
        Some(end) => end,
        None => {
            let end = Bound::new(py, ThreadEnd { closers: Mutex::default(), process: std::process::id() })?;
            dict.set_item(key, &end)?;
            end
        }
    };
    lock(&end.get().closers).push(Box::new(closer));
    Ok(())
}

/// Whether a thread has deferred something that it needs once. A forked child has to do it again.
pub struct Deferred(Cell<Option<u32>>);

impl Deferred {
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Runs `closer` in this thread when it ends, unless that is deferred already.
    pub fn ensure(&self, py: Python<'_>, closer: fn(Python<'_>)) -> PyResult<()> {
        if self.0.replace(Some(process::epoch())) == Some(process::epoch()) {
            return Ok(());
        }
        defer(py, closer)
    }

    /// It has been run: what comes after that needs it again.
    pub fn forget(&self) {
        self.0.set(None);
    }
}

/// Runs what this thread has deferred now: the main thread's state is cleared when Python is no more.
pub fn run_now(py: Python<'_>) {
    let end = of_this_thread(py).and_then(|dict| dict.get_item(intern!(py, "syncline")).ok().flatten());
    if let Some(Ok(end)) = end.map(|end| end.cast_into::<ThreadEnd>())
        && end.get().process == std::process::id()
    {
        end.get().run(py);
    }
}
