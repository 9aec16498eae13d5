//! Which node stands, in the graph of who waits for whom, for the loop that runs in a thread.
//!
//! A loop of somebody else's has one if a bridge is onto it: only then can a call be sent there, and be waited for. All bridges
//! that are onto the same loop have the same node.

use super::state::{Runner, current_runner};
use crate::python::names;
use crate::python::per_process::PerProcess;
use crate::python::surroundings;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};
use syncline_core::waits::Node;
use syncline_core::weak_list::WeakVec;

/// The runners onto loops that somebody else runs.
static ATTACHED: PerProcess<WeakVec<Runner>> = PerProcess::new();
/// Whether there has been one. Where there was none, to ask costs one look at this.
static ANY_ATTACHED: AtomicBool = AtomicBool::new(false);

fn attached() -> &'static Mutex<WeakVec<Runner>> {
    ATTACHED.get(|_| WeakVec::default())
}

fn find_attached(is_it: impl Fn(&Runner) -> bool) -> Option<Arc<Node>> {
    let known = lock(attached()).alive();
    let found = known.iter().find(|runner| !runner.has_ended() && is_it(runner));
    found.map(|runner| Arc::clone(&runner.node))
}

pub fn remember_attached(runner: &Arc<Runner>) {
    ANY_ATTACHED.store(true, Relaxed);
    lock(attached()).add(Arc::downgrade(runner));
}

/// The node for a loop that a bridge is about to be onto, by its anchor.
pub fn of_loop(anchor: &Py<PyAny>) -> Arc<Node> {
    find_attached(|runner| runner.attached.as_ref().is_some_and(|known| known.anchor.is(anchor))).unwrap_or_default()
}

/// The node of the loop of somebody else's that runs in that thread.
pub fn of_attached_thread(thread: u64) -> Option<Arc<Node>> {
    if thread == 0 || !ANY_ATTACHED.load(Relaxed) {
        return None;
    }
    find_attached(|runner| runner.thread_id() == thread)
}

/// Whether something lies in the mailbox of the loop that runs in this thread.
pub fn has_mail_here(py: Python<'_>) -> PyResult<bool> {
    if let Some(current) = current_runner() {
        return Ok(current.mailbox.has_mail());
    }
    if !ANY_ATTACHED.load(Relaxed) {
        return Ok(false);
    }
    let thread = names::thread_ident(py)?;
    Ok(find_attached(|runner| runner.thread_id() == thread && runner.mailbox.has_mail()).is_some())
}

/// The node of the loop that runs in this thread.
pub fn here(py: Python<'_>) -> PyResult<Option<Arc<Node>>> {
    match current_runner() {
        Some(current) => Ok(Some(Arc::clone(&current.node))),
        None => attached_here(py),
    }
}

/// The same, if the loop is somebody else's.
pub fn attached_here(py: Python<'_>) -> PyResult<Option<Arc<Node>>> {
    if !ANY_ATTACHED.load(Relaxed) || !surroundings::in_event_loop(py)? {
        return Ok(None);
    }
    Ok(of_attached_thread(names::thread_ident(py)?))
}
