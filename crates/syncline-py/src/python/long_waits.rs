//! The list of waits that have gone on for a while, for the code that searches for deadlocks, reports stalls, and shows
//! who waits for whom.
//!
//! A wait that ends soon is not in it: it is added when its thread goes to sleep for long. Only one of a thread that
//! drives the loop itself is added at once, as that thread is in the loop until then.
//!
//! Invariants:
//! 1. The list is locked only while attached. So what Python code reads there stays true until another thread runs.
//! 2. No object is dropped under the lock.
//! 3. The thread of a loop that somebody else runs is the last that was known to. Nothing is concluded from that before it
//!    is asked for again: the loop may go on in another thread by now.

use crate::python::names;
use crate::python::per_process::PerProcess;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use syncline_core::register::Register;
use syncline_core::sync::{MutexGuard, lock};

/// What a thread waits for.
pub trait Subject: Send + Sync {
    /// What its loop is called.
    fn loop_name(&self) -> Arc<str>;
    /// The task that runs it, while that is suspended.
    fn suspended_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>>;
}

/// A loop that may go on in another thread (3).
pub struct Movable(pub Py<PyAny>);

impl Movable {
    /// The thread that runs it, as far as it tells or can be seen.
    pub fn thread(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        names::thread_of_loop(py)?.call1((&self.0,))?.extract()
    }
}

#[derive(Clone)]
struct Going {
    waiter: u64,
    loop_thread: u64,
    movable: Option<Arc<Movable>>,
    begun: Instant,
    subject: Arc<dyn Subject>,
}

/// A forked child begins with an empty list.
static ALL: PerProcess<Register<Going>> = PerProcess::new();
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A wait: its number, the thread that waits, and that of the loop which it waits for. Made and dropped attached.
pub struct LongWait {
    pub number: u64,
    pub waiter: u64,
    loop_thread: u64,
    movable: Option<Arc<Movable>>,
}

impl LongWait {
    pub fn begin(
        py: Python<'_>,
        loop_thread: u64,
        movable: Option<Movable>,
        begun: Instant,
        subject: Arc<dyn Subject>,
    ) -> PyResult<Self> {
        Ok(Self::of(names::thread_ident(py)?, loop_thread, movable, begun, subject))
    }

    /// The same for a wait of this thread, `thread`, which runs the loop itself.
    pub fn begin_driving(_py: Python<'_>, thread: u64, begun: Instant, subject: Arc<dyn Subject>) -> Self {
        Self::of(thread, thread, None, begun, subject)
    }

    fn of(waiter: u64, loop_thread: u64, movable: Option<Movable>, begun: Instant, subject: Arc<dyn Subject>) -> Self {
        let movable = movable.map(Arc::new);
        let mut all = all();
        let number = NEXT.fetch_add(1, Relaxed);
        all.add(number, Going { waiter, loop_thread, movable: movable.clone(), begun, subject });
        Self { number, waiter, loop_thread, movable }
    }

    pub fn is_for(&self, loop_thread: u64) -> bool {
        self.loop_thread == loop_thread
    }

    /// If the loop's thread can't go on before the waiting one does, says why.
    pub fn is_blocked(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let report: Option<String> = names::blocked_on_lock(py)?.call1((self.loop_thread, self.waiter))?.extract()?;
        match &self.movable {
            Some(movable) if report.is_some() && movable.thread(py)? != Some(self.loop_thread) => Ok(None),
            _ => Ok(report),
        }
    }

    /// If the loop's thread may be in a circle of threads that wait for each other, or wait for one, these threads.
    pub fn threads_on_the_way(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        names::way_into_a_circle(py)?.call1((self.loop_thread,))?.extract()
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        let removed = all().remove(self.number);
        drop(removed);
    }
}

fn all() -> MutexGuard<'static, Register<Going>> {
    lock(ALL.get(|_| Register::default()))
}

/// Maps each thread that has waited for a while for another thread's loop to the wait's number and that thread.
#[pyfunction]
pub fn long_waits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let pairs: Vec<_> = all().iter().map(|(number, entry)| (number, entry.waiter, entry.loop_thread)).collect();
    let waits = PyDict::new(py);
    for (number, waiter, loop_thread) in pairs.into_iter().filter(|(_, waiter, loop_thread)| waiter != loop_thread) {
        waits.set_item(waiter, (number, loop_thread))?;
    }
    Ok(waits)
}

/// The wait's number and that thread, 0 if it is not certain (3), for one thread; `None` if it has not waited for a while.
#[pyfunction]
#[pyo3(signature = (thread, /))]
pub fn long_wait_of(py: Python<'_>, thread: u64) -> PyResult<Option<(u64, u64)>> {
    let found = {
        let all = all();
        let own = all.iter().filter(|(_, entry)| entry.waiter == thread && entry.loop_thread != thread);
        own.last().map(|(number, entry)| (number, entry.loop_thread, entry.movable.clone()))
    };
    let Some((number, loop_thread, movable)) = found else { return Ok(None) };
    let seen = movable.map_or(Ok(Some(loop_thread)), |movable| movable.thread(py))?;
    Ok(Some((number, seen.unwrap_or(0))))
}

/// A wait as Python code sees it: the waiting thread, the loop's thread and name, for how many seconds, and the task
/// that is waited for, while that is suspended.
type SeenWait<'py> = (u64, u64, String, f64, Option<Bound<'py, PyAny>>);

/// All waits that have gone on for a while, those that began first first.
#[pyfunction]
pub fn waiting_threads(py: Python<'_>) -> Vec<SeenWait<'_>> {
    let entries: Vec<_> = all().iter().map(|(_, entry)| entry.clone()).collect();
    let seen = entries.iter().map(|Going { waiter, loop_thread, begun, subject, .. }| {
        (
            *waiter,
            *loop_thread,
            subject.loop_name().to_string(),
            begun.elapsed().as_secs_f64(),
            subject.suspended_task(py),
        )
    });
    seen.collect()
}
