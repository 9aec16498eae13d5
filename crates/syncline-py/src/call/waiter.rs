//! A worker thread's job, as the calls that its function waits for know it.
//!
//! The job's type is defined in a room that this one must not use. A call needs to know of it so that a circle of
//! waits (a deadlock) is seen that leads through worker threads.

use super::state::Call;
use crate::python::leaky::Leaky;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::Arc;
use syncline_core::waits::Node;

pub trait Waiter: Any + Send + Sync {
    /// The function begins to wait for that call, on the loop of that node, if it has one.
    fn begin_waiting(&self, py: Python<'_>, call: &Arc<Call>, node: Option<&Arc<Node>>);
    fn end_waiting(&self);
    /// Called now and then during a wait: sees to it that jobs go on for which no worker is free, since all wait as
    /// this one does. `seen` keeps what it saw the last time.
    fn look_after(&self, py: Python<'_>, seen: &mut Option<u64>);
}

thread_local! {
    static HERE: Leaky<Arc<dyn Waiter>> = const { Leaky::new() };
}

/// The job that this thread does.
pub fn here() -> Option<Arc<dyn Waiter>> {
    HERE.with(Leaky::cloned)
}

/// Says which job this thread does from now on; returns the one before.
pub fn enter(job: Option<Arc<dyn Waiter>>) -> Option<Arc<dyn Waiter>> {
    HERE.with(|here| here.replace(job))
}

/// While it lives, the job that this thread does waits for a call.
pub struct Waiting(Option<Arc<dyn Waiter>>);

impl Waiting {
    pub fn begin(py: Python<'_>, call: &Arc<Call>, node: Option<&Arc<Node>>) -> Self {
        let job = here();
        if let Some(job) = &job {
            job.begin_waiting(py, call, node);
        }
        Self(job)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(job) = &self.0 {
            job.end_waiting();
        }
    }
}
