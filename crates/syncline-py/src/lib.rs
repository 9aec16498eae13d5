//! The extension module `syncline._core`: everything of the bridge that touches Python.
//!
//! A call's way: [`bridge`] takes it, [`placement`] chooses the loop, [`target`] checks what is to run, [`wait`] hands it
//! over and waits, [`call`] is what both sides know of it. On the loop's side: [`runner`] is the loop on its thread, fed
//! through [`selector`] or `call_soon_threadsafe`; [`tasks`] makes the task, [`shim`] is the coroutine that the task
//! sees, [`outbox`] publishes results, [`shutdown`] ends the loop. [`own`] is the loop of a thread that drives it itself,
//! [`submitted`] a call that nobody waits for, [`context`] takes contextvars there and back; [`process`] and
//! [`thread_end`] see to fork, exit and threads that end, [`signals`] to what signal handlers raise. [`session`] makes
//! many steps in one task, for the objects of [`dual`]; [`rest`] is how its task waits in between. [`source`] drives
//! coroutines by hand. [`switch`] lets nested calls await in place.
//!
//! The other way, async code to a thread: [`work`] is one call, [`workers`] are the threads, [`limits`] says how many,
//! [`home`] brings results back to a loop, [`pending`] is what a task awaits, and [`from_thread`] the way back.

mod bridge;
mod call;
mod coroutine;
mod dual;
mod lifecycle;
mod python;
mod runner;
mod switch;
mod task;
mod worker;

// Forks rely on the interpreter lock. Only an attached thread forks, so that no other one is inside a lock or a cell that is
// held only while attached (`process`, `once`). A free-threaded build therefore turns it on again at the import.
#[pyo3::pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use crate::bridge::options::Bridge;
    #[pymodule_export]
    use crate::bridge::submitted::Submitted;
    #[pymodule_export]
    use crate::dual::coroutine::CoroutineBase;
    #[pymodule_export]
    use crate::dual::generator::GeneratorBase;
    #[pymodule_export]
    use crate::dual::iterator::IteratorBase;
    #[pymodule_export]
    use crate::dual::manager::ManagerBase;
    #[pymodule_export]
    use crate::python::condition::Condition;
    #[pymodule_export]
    use crate::python::long_waits::long_waits;
    #[pymodule_export]
    use crate::python::surroundings::in_event_loop;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::runner::selector::Selector;
    #[pymodule_export]
    use crate::switch::nestable::{Nestable, NoSwitch, TaskFactory};
    #[pymodule_export]
    use crate::task::bridged::BridgedCoroutine;
    #[pymodule_export]
    use crate::task::loops::BridgeLoop;
    #[pymodule_export]
    use crate::worker::awaiting::Pending;
    #[pymodule_export]
    use crate::worker::from_thread::{check_cancelled, from_thread};
    #[pymodule_export]
    use crate::worker::inbox::Drain;
    #[pymodule_export]
    use crate::worker::limiter::LimiterBase;
    #[pymodule_export]
    use crate::worker::marks::{call_with_mark, in_worker_thread, mark_as_worker_thread, worker_counts};
    #[pymodule_export]
    use crate::worker::workers::Worker;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        use pyo3::types::PyModuleMethods;

        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::python::errors::export(module)?;
        let kinds =
            vec![Nestable::kind(py), BridgedCoroutine::kind(py), crate::task::session::SessionCoroutine::kind(py)];
        crate::switch::kinds::fill(py, kinds);
        crate::lifecycle::install(py)
    }
}
