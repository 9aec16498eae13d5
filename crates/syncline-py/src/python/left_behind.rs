//! Threads that go on once the exit has done all that is ours, as something keeps them busy: they are left behind.
//!
//! Before Python 3.14 the interpreter kills such a thread when it next wants to run, by unwinding its stack, which frames of Rust
//! and of greenlet do not survive: the process aborts. So there the code of each of them gets an exception, and to make
//! that is to sleep for good.

use super::names;
use super::per_process::PerProcess;
use super::process;
use super::version;
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};

/// For how long the exit waits until they sleep. One that is in C code by then comes too late, or never.
const LONGEST: Duration = Duration::from_millis(500);

/// Threads that run functions below ours, and no loop. Locked only while attached.
static BUSY: PerProcess<Vec<u64>> = PerProcess::new();

fn busy() -> &'static Mutex<Vec<u64>> {
    BUSY.get(|_| Vec::new())
}

/// While it lives, its thread counts as one of these.
pub struct BusyThread(Option<u64>);

impl BusyThread {
    pub fn here(py: Python<'_>) -> Self {
        let thread = names::thread_ident(py).ok();
        lock(busy()).extend(thread);
        Self(thread)
    }
}

impl Drop for BusyThread {
    fn drop(&mut self) {
        let mut busy = lock(busy());
        let own = busy.iter().rposition(|&thread| Some(thread) == self.0);
        own.map(|place| busy.swap_remove(place));
    }
}

/// What is raised in such a thread. There are no objects of it.
#[pyclass(extends = PyBaseException, module = "syncline._core")]
struct LeftBehind;

#[pymethods]
impl LeftBehind {
    #[new]
    #[pyo3(signature = (*_args))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>) -> Self {
        py.detach(process::stay_for_ever)
    }
}

/// Has these threads sleep for good, which run loops, and those that are busy otherwise; not the main one.
pub fn put_to_sleep(py: Python<'_>, of_loops: impl Iterator<Item = u64>) {
    let mut threads: Vec<u64> = of_loops.chain(lock(busy()).iter().copied()).collect();
    threads.retain(|&thread| !process::is_main(thread));
    if version::minor() >= 14 || threads.is_empty() {
        return;
    }
    let raised = py.get_type::<LeftBehind>();
    for &thread in &threads {
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_possible_wrap,
            clippy::cast_possible_truncation,
            reason = "as C has it"
        )]
        let thread = thread as _;
        // SAFETY: attached, and the class is an exception's. A thread that has ended is not found.
        unsafe { ffi::PyThreadState_SetAsyncExc(thread, raised.as_ptr()) };
    }
    let until = Instant::now() + LONGEST;
    py.detach(|| {
        while !threads.iter().all(|&thread| process::stays_for_ever(thread)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
