//! The extension module `syncline._core`: everything of the bridge that touches Python.
//!
//! [`bridge`] decides where a coroutine runs; [`call`] carries it there and waits; [`runner`] is the loop on its thread,
//! fed through [`selector`] or `call_soon_threadsafe`; [`shim`] is the coroutine that the loop sees; [`own`] is the loop
//! of a thread that drives it itself; [`context`] takes contextvars there and back; [`process`] and [`thread_end`] see
//! to fork, exit and threads that end.

mod bridge;
mod call;
mod context;
mod errors;
mod names;
mod own;
mod process;
mod runner;
#[cfg(target_os = "linux")]
mod selector;
mod shim;
mod target;
mod tasks;
mod thread_end;

#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::bridge::{Bridge, Pinned, Submitted};
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::selector::Selector;
    #[pymodule_export]
    use crate::shim::BridgedCoroutine;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::errors::export(module)?;
        crate::process::install(module.py())
    }
}
