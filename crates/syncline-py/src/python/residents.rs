//! The loops of ours that live in this process, those of runners and those that threads drive themselves, as fork,
//! exit and reports see them.
//!
//! Invariants:
//! 1. The list is locked only while attached, and only to read or change it. No object is dropped under the lock.
//! 2. A forked child has a list of its own, and leaves its parent's loops alone: not even their memory is freed there.

use super::per_process::PerProcess;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, Weak};
use std::time::Duration;
use syncline_core::latch::Latch;
use syncline_core::sync::{Mutex, lock};
use syncline_core::weak_list::WeakVec;

/// What is shown of a loop, to people.
pub struct Shown {
    pub name: String,
    /// Whether it sleeps until something comes; `None` where that is not known.
    pub is_asleep: Option<bool>,
}

/// A loop of ours.
pub trait Resident: Send + Sync {
    /// What messages call the loop.
    fn description(&self) -> String;
    /// The scope that it serves, as a bridge calls it.
    fn scope(&self) -> &'static str;
    /// The loop object, until it is closed.
    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>>;
    /// The identifier of the thread that does nothing but run the loop, if there is one (a runner's).
    fn own_thread(&self) -> Option<u64>;
    /// That of the thread which runs it at the moment.
    fn running_thread(&self) -> Option<u64> {
        self.own_thread()
    }
    fn shown(&self) -> Shown;
    /// The calls of `submit` that have not ended: of each one the task, while it is suspended.
    fn submitted<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyAny>>> {
        let _ = py;
        Vec::new()
    }
    /// How long its tasks may clean up after they were cancelled.
    fn cleanup(&self) -> Duration;
    /// Opens when it has ended.
    fn ended(&self) -> &Latch;
    /// For a loop that has ended: whether its thread is still in its last steps.
    fn is_about_to_end(&self, py: Python<'_>) -> bool;
    /// Tells it to end, without waiting.
    fn begin_end(self: Arc<Self>, py: Python<'_>);
    /// Lets the futures of its submitted calls raise an error, so that nobody waits for them in vain.
    fn free_waiters(&self, py: Python<'_>);

    fn has_ended(&self) -> bool {
        self.ended().is_open()
    }
}

static ALL: PerProcess<WeakVec<dyn Resident>> = PerProcess::new();

fn all() -> &'static Mutex<WeakVec<dyn Resident>> {
    ALL.get(|parents| {
        // By 2: what a parent's loop holds is kept alive for ever, so that it is not freed here.
        let parents = parents.and_then(|parents| parents.try_lock().ok());
        parents.iter().flat_map(|all| all.alive()).for_each(std::mem::forget);
        WeakVec::default()
    })
}

/// Loops that somebody else runs, and that calls go to: only shown.
static ATTACHED: PerProcess<WeakVec<dyn Resident>> = PerProcess::new();

fn attached() -> &'static Mutex<WeakVec<dyn Resident>> {
    ATTACHED.get(|_| WeakVec::default())
}

/// For a forked child: makes its own list at once (by 2).
pub fn leave_parents(_py: Python<'_>) {
    drop(lock(all()));
}

/// Adds a loop to those that end with the process.
pub fn remember(resident: Weak<dyn Resident>, _py: Python<'_>) {
    // By 1: to drop a weak reference runs no destructor of the loop's.
    lock(all()).add(resident);
}

/// Adds a loop that somebody else runs.
pub fn show_attached(resident: Weak<dyn Resident>, _py: Python<'_>) {
    lock(attached()).add(resident);
}

/// Those of this process that have not ended.
pub fn alive(_py: Python<'_>) -> Vec<Arc<dyn Resident>> {
    open_of(all())
}

fn open_of(known: &Mutex<WeakVec<dyn Resident>>) -> Vec<Arc<dyn Resident>> {
    let known = lock(known).alive();
    known.into_iter().filter(|resident| !resident.has_ended()).collect()
}

/// The loop objects of those that have not ended.
pub fn event_loops(py: Python<'_>) -> Vec<Bound<'_, PyAny>> {
    alive(py).iter().filter_map(|resident| resident.event_loop(py)).collect()
}

/// For messages: maps the `id` of each loop object to its description and its scope.
pub fn loop_owners(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let owners = PyDict::new(py);
    for resident in alive(py) {
        if let Some(event_loop) = resident.event_loop(py) {
            owners.set_item(event_loop.as_ptr() as usize, (resident.description(), resident.scope()))?;
        }
    }
    Ok(owners)
}

/// A loop as Python code sees it: the loop object, its name, its thread, whether it sleeps, and the tasks of the calls
/// that were submitted to it.
type SeenLoop<'py> = (Bound<'py, PyAny>, String, Option<u64>, Option<bool>, Vec<Option<Bound<'py, PyAny>>>);

/// All loops that calls run on, also those that somebody else runs.
#[pyfunction]
pub fn loops(py: Python<'_>) -> Vec<SeenLoop<'_>> {
    let all = alive(py).into_iter().chain(open_of(attached()));
    let seen = all.filter_map(|resident| {
        let Shown { name, is_asleep } = resident.shown();
        let event_loop = resident.event_loop(py)?;
        Some((event_loop, name, resident.own_thread(), is_asleep, resident.submitted(py)))
    });
    seen.collect()
}
