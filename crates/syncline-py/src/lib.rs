//! The extension module `syncline._core`: everything of the bridge that touches Python.
//!
//! From the ground up, each room using only those before it: [`python`] is what we need of the interpreter,
//! [`coroutine`] what a call runs, [`switch`] nested calls in place, [`call`] one call and the one wait, [`task`] tasks
//! on a loop, [`runner`] a loop on a thread of its own, [`worker`] async code to threads and back, [`bridge`] what
//! users hold, [`dual`] objects for both worlds. [`lifecycle`] is import, fork and exit.
//!
//! docs/internals.md goes with three calls from file to file, and explains our words.

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

// `gil_used`: forks rely on the interpreter lock. Only a thread that holds it forks in Python, so no other thread is
// then inside of a lock or cell that is held only by attached threads (python/residents.rs, python/once.rs). With this
// flag a free-threaded build turns the lock on again when the module is imported.
#[pyo3::pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use crate::bridge::decided::{spin_policy, why_no_switching};
    #[pymodule_export]
    use crate::bridge::observing::{begin_trace, end_trace, set_span_maker, trace_lost};
    #[pymodule_export]
    use crate::bridge::options::Bridge;
    #[pymodule_export]
    use crate::bridge::submitted::{FutureBase, Submitted};
    #[pymodule_export]
    use crate::call::caller::{Caller, note_trio_task};
    #[pymodule_export]
    use crate::call::watched::{WatchedCall, is_watched};
    #[pymodule_export]
    use crate::dual::coroutine::CoroutineBase;
    #[pymodule_export]
    use crate::dual::generator::GeneratorBase;
    #[pymodule_export]
    use crate::dual::iterator::IteratorBase;
    #[pymodule_export]
    use crate::dual::manager::ManagerBase;
    #[pymodule_export]
    use crate::python::collected::Collected;
    #[pymodule_export]
    use crate::python::condition::Condition;
    #[pymodule_export]
    use crate::python::frames::{current_frames, serve};
    #[pymodule_export]
    use crate::python::leaving::Leaving;
    #[pymodule_export]
    use crate::python::long_waits::{long_wait_of, long_waits, waiting_threads};
    #[pymodule_export]
    use crate::python::process::{epoch, keep_for_ever};
    #[pymodule_export]
    use crate::python::residents::loops;
    #[pymodule_export]
    use crate::python::signals::is_of_handler;
    #[pymodule_export]
    use crate::python::surroundings::in_event_loop;
    #[pymodule_export]
    use crate::python::threads::start_thread;
    #[pymodule_export]
    use crate::python::trio_run::tell_trio;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::runner::selector::Selector;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::runner::turns::OwnTurnWatcher;
    #[pymodule_export]
    use crate::runner::turns::TurnWatcher;
    #[pymodule_export]
    use crate::switch::aside::{Aside, await_here, can_await_here, has_opted_in};
    #[pymodule_export]
    use crate::switch::kinds::nested_calls;
    #[pymodule_export]
    use crate::switch::nestable::{Nestable, NoSwitch, TaskFactory, made_nestable};
    #[pymodule_export]
    use crate::task::bridged::BridgedCoroutine;
    #[pymodule_export]
    use crate::task::loops::BridgeLoop;
    #[pymodule_export]
    use crate::task::session_task::SessionCoroutine;
    #[pymodule_export]
    use crate::task::starting::start_task;
    #[pymodule_export]
    use crate::task::steps::{Steps, layers_of, name_of};
    #[pymodule_export]
    use crate::worker::awaiting::Pending;
    #[pymodule_export]
    use crate::worker::errand::errand;
    #[pymodule_export]
    use crate::worker::from_thread::{check_cancelled, from_thread};
    #[pymodule_export]
    use crate::worker::inbox::Drain;
    #[pymodule_export]
    use crate::worker::limiter::LimiterBase;
    #[pymodule_export]
    use crate::worker::limits::limiters;
    #[pymodule_export]
    use crate::worker::loop_end::LoopEnd;
    #[pymodule_export]
    use crate::worker::marks::{call_with_mark, in_worker_thread, mark_as_worker_thread, worker_counts};
    #[pymodule_export]
    use crate::worker::own_thread::OwnThread;
    #[pymodule_export]
    use crate::worker::workers::Worker;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        use crate::switch::kinds::CoroutineKind;
        use crate::task::session_task::SessionCoroutine;
        use pyo3::types::PyModuleMethods;

        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::python::errors::export(module)?;
        crate::python::condition::complete(py)?;
        let kinds = vec![
            CoroutineKind::of_class::<Nestable>(py),
            CoroutineKind::of_class::<BridgedCoroutine>(py),
            CoroutineKind::of_class::<SessionCoroutine>(py),
        ];
        crate::switch::kinds::fill(py, kinds, crate::call::caller::note_new_task);
        crate::lifecycle::install(py)
    }
}
