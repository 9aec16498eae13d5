//! Which node stands, in the graph of who waits for whom, for the loop that runs in a thread.
//!
//! A loop of somebody else's has one if a bridge is onto it: only then can a call be sent there, and be waited for. All bridges
//! that are onto the same loop have the same node.
//!
//! Such a loop is known by its anchor. A thread's identifier is no name for it: one thread runs a loop after another, and
//! its identifier is used again.

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

/// The node of a loop of somebody else's, by its anchor.
pub fn of_loop(anchor: &Bound<'_, PyAny>) -> Option<Arc<Node>> {
    if !ANY_ATTACHED.load(Relaxed) {
        return None;
    }
    find_attached(|runner| runner.is_onto(anchor))
}

/// The same for the loop that runs in this thread, if it is as asked; for an outer one, which that blocks, if no bridge is
/// onto it.
fn find_here(py: Python<'_>, is_it: impl Fn(&Runner) -> bool) -> PyResult<Option<Arc<Node>>> {
    let mut anchors = [names::running_loop(py)?, None];
    if surroundings::runs_trio(py)? {
        anchors[1] = Some(names::trio_token(py)?.call0()?);
    }
    let is_here = |runner: &Runner| anchors.iter().flatten().any(|anchor| runner.is_onto(anchor));
    if let Some(found) = find_attached(|runner| is_here(runner) && is_it(runner)) {
        return Ok(Some(found));
    }
    let thread = names::thread_ident(py)?;
    Ok(find_attached(|runner| runner.thread_id() == thread && runner.is_loop_running(py) && is_it(runner)))
}

/// Whether something lies in the mailbox of the loop that runs in this thread.
pub fn has_mail_here(py: Python<'_>) -> PyResult<bool> {
    if let Some(current) = current_runner() {
        return Ok(current.mailbox.has_mail());
    }
    if !ANY_ATTACHED.load(Relaxed) {
        return Ok(false);
    }
    Ok(find_here(py, |runner| runner.mailbox.has_mail())?.is_some())
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
    find_here(py, |_| true)
}
