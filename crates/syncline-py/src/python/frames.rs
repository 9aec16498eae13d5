//! What threads run at the moment, for reports and for the search for deadlocks.
//!
//! `sys._current_frames()` goes through all of Python's thread states. In a child that C code has forked, without
//! `PyOS_AfterFork_Child`, these are also those of the parent's other threads: up to Python 3.12 their frames are found by
//! what lay on their stacks, where new threads have written since, and the process crashes; later on they are
//! taken for the frames of new threads that have got the same identifiers. So there only the calling thread is shown, and
//! those of ours.

use super::per_process::PerProcess;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::thread_end::Deferred;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use syncline_core::sync::lock;

/// A thread's identifier, and its state.
struct Serving(u64, *mut ffi::PyThreadState);

// SAFETY: the pointer is followed only while attached, and only until its thread has taken it out of the list.
unsafe impl Send for Serving {}

/// Our threads, in a child that C code has forked. Locked only while attached.
static SERVING: PerProcess<Vec<Serving>> = PerProcess::new();

thread_local! {
    static END: Deferred = const { Deferred::new() };
}

/// Says that this thread is one of ours: what runs here was sent by others, who are told how it ends.
#[pyfunction]
pub fn serve(py: Python<'_>) {
    process::serve();
    if process::is_unheard_child() {
        // Otherwise it is not shown.
        let _ = note(py);
    }
}

fn note(py: Python<'_>) -> PyResult<()> {
    let ident = names::thread_ident(py)?;
    END.with(|end| end.ensure(py, forget))?;
    // SAFETY: attached, so there is a state.
    let state = unsafe { ffi::PyThreadState_Get() };
    let mut serving = lock(SERVING.get(|_| Vec::new()));
    if serving.iter().all(|each| each.1 != state) {
        serving.push(Serving(ident, state));
    }
    Ok(())
}

fn forget(_py: Python<'_>) {
    END.with(Deferred::forget);
    // SAFETY: attached.
    let state = unsafe { ffi::PyThreadState_Get() };
    lock(SERVING.get(|_| Vec::new())).retain(|each| each.1 != state);
}

/// The innermost frame of each thread, by its identifier.
#[pyfunction]
pub fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    if !process::is_unheard_child() {
        return Ok(py.import("sys")?.call_method0(intern!(py, "_current_frames"))?.cast_into()?);
    }
    let frames = PyDict::new(py);
    let threads: Vec<_> = lock(SERVING.get(|_| Vec::new())).iter().map(|each| (each.0, each.1)).collect();
    for (ident, state) in threads {
        // SAFETY: attached, and so its thread has not ended since the list was read.
        let frame = unsafe { ffi::PyThreadState_GetFrame(state) };
        // SAFETY: a new reference, or null without an exception.
        if let Some(frame) = unsafe { Bound::from_owned_ptr_or_opt(py, frame.cast()) } {
            frames.set_item(ident, frame)?;
        }
    }
    if let Ok(frame) = names::getframe(py)?.call0() {
        frames.set_item(names::thread_ident(py)?, frame)?;
    }
    Ok(frames)
}
