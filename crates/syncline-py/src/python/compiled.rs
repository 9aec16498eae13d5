//! The compiled code that a stack returns into when it is switched to again.
//!
//! With its compiler on (`PYTHON_JIT=1`), Python frees compiled code that is no longer valid once no thread runs it. What
//! a thread runs stands in its `PyThreadState.current_executor`; an inner interpreter loop holds what stood there before
//! it. greenlet (3.5.6) copies that field where it switches, but no reference to what is in it: the code into which the
//! stack returns could be freed meanwhile, and the stack that goes on ran into nothing. So whoever switches holds it, as
//! an inner loop would.
//!
//! The field lies so many words behind the hooks for async generators, in Python's public headers.

use crate::python::asyncgen_hooks;
use crate::python::once::intern;
use crate::python::version;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::null_mut;

type Executor = *mut ffi::PyObject;

/// Where a thread's state has the field. `None` where Python compiles nothing.
#[derive(Clone, Copy)]
pub struct ExecutorField(Option<usize>);

/// What the calling thread's stack returns into, held until this is dropped.
pub struct HeldExecutor {
    executor: Executor,
    place: ExecutorField,
}

impl ExecutorField {
    pub fn find(py: Python<'_>) -> PyResult<Self> {
        let Some(compiler) = py.import("sys")?.getattr_opt(intern!(py, "_jit"))? else { return Ok(Self(None)) };
        if !compiler.call_method0(intern!(py, "is_enabled"))?.is_truthy()? {
            return Ok(Self(None));
        }
        let behind = match version::minor() {
            14 => 10,
            15 => 11,
            _ => return Ok(Self(None)),
        };
        Ok(Self(asyncgen_hooks::place(py)?.map(|hooks| hooks + behind)))
    }

    /// Holds what the calling thread's stack returns into, before a switch.
    pub fn hold(self, py: Python<'_>) -> HeldExecutor {
        let executor = self.exchange(py, null_mut());
        // SAFETY: attached. It is alive, or null: it stands where Python looks before it frees any.
        unsafe { ffi::Py_XINCREF(executor) };
        HeldExecutor { executor, place: self }
    }

    fn exchange(self, _py: Python<'_>, new: Executor) -> Executor {
        let Some(word) = self.0 else { return null_mut() };
        // SAFETY: attached.
        let state = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: in the state of the Pythons that `find` knows.
        let field = unsafe { state.cast::<Executor>().add(word) };
        // SAFETY: only its own thread writes it.
        unsafe { field.replace(new) }
    }
}

impl Drop for HeldExecutor {
    fn drop(&mut self) {
        if self.executor.is_null() {
            return;
        }
        Python::attach(|py| self.place.exchange(py, self.executor));
        // SAFETY: a reference of our own. If it is the last, the field keeps the memory while the stack runs in it.
        unsafe { ffi::Py_DECREF(self.executor) };
    }
}
