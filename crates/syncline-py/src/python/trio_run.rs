//! Telling a trio run something, by its token, so that what a signal handler raises can't leave the run's lock taken.
//!
//! `TrioToken.run_sync_soon` takes that lock by `with`. Python 3.14 looks for signals when the lock is taken and the
//! block has not begun (condition.rs), and later versions call a profile function there. What is raised then leaves the
//! lock taken, and whoever tells that run something next is stuck for good, the run itself at its end among them. So
//! what such a call has left of the lock is given back here, where no handler runs.

use crate::python::once::intern;
use crate::python::process;
use crate::python::version;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// `token.run_sync_soon(callback, *args)`.
#[pyfunction]
#[pyo3(signature = (token, callback, *args, idempotent=false))]
pub fn tell_trio(
    token: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    idempotent: bool,
) -> PyResult<()> {
    let py = token.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "idempotent"), idempotent)?;
    let given = args.as_sequence();
    let all = PyTuple::new(py, [callback])?.as_sequence().concat(given)?.to_tuple()?;
    let tell = || token.call_method(intern!(py, "run_sync_soon"), all, Some(&options)).map(drop);
    // No handler runs in other threads, and before that version none at that moment.
    if version::minor() < 14 || !process::is_main_thread(py) {
        return tell();
    }
    let Some(lock) = lock_of(token) else { return tell() };
    // Not 0 in a handler that has interrupted such a call.
    let before = depth(&lock)?;
    let told = tell();
    if told.is_err() {
        while depth(&lock)? > before {
            lock.call_method0(intern!(py, "release"))?;
        }
    }
    told
}

/// The run's lock, as long as trio has one where it is now.
fn lock_of<'py>(token: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = token.py();
    let queue = token.getattr_opt(intern!(py, "_reentry_queue")).ok()??;
    let lock = queue.getattr_opt(intern!(py, "lock")).ok()??;
    lock.hasattr(intern!(py, "_recursion_count")).ok()?.then_some(lock)
}

/// How often this thread has taken it.
fn depth(lock: &Bound<'_, PyAny>) -> PyResult<usize> {
    lock.call_method0(intern!(lock.py(), "_recursion_count"))?.extract()
}
