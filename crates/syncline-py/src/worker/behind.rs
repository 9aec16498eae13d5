//! Which loops are behind the code that runs in this thread.

use super::inbox::Inbox;
use super::work::{self, Work};
use crate::runner::nodes;
use crate::runner::state::{Runner, current_runner};
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::waits::{Awaiting, Node};

/// The call that this worker thread makes, and the loop that sent it here.
pub fn sender() -> Option<(Arc<Work>, Arc<Inbox>)> {
    let work = work::current()?;
    let inbox = Arc::clone(work.inbox()?);
    Some((work, inbox))
}

/// The runner whose loop sent this worker thread.
pub fn sending_runner() -> Option<Arc<Runner>> {
    sender().and_then(|(_, inbox)| inbox.runner())
}

/// The loop that runs in this thread, if that is a runner's; else the loops of somebody else's that runs here, and that sent
/// this thread: what goes on there may wait for what this thread waits for.
pub struct Behind(pub [Option<Arc<Node>>; 2]);

impl Behind {
    pub fn here(py: Python<'_>) -> PyResult<Self> {
        if let Some(current) = current_runner() {
            return Ok(Self([Some(Arc::clone(&current.node)), None]));
        }
        Ok(Self([nodes::attached_here(py)?, sender().and_then(|(_, inbox)| inbox.node(py))]))
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.0.iter().flatten()
    }

    pub fn is_nobody(&self) -> bool {
        self.nodes().next().is_none()
    }

    pub fn is(&self, runner: &Runner) -> bool {
        self.nodes().any(|node| Arc::ptr_eq(node, &runner.node))
    }

    /// Whether that runner's thread waits for what goes on there, or is that thread itself.
    pub fn holds_up(&self, runner: &Runner) -> bool {
        self.nodes().any(|node| runner.node.leads_to(node))
    }
}

/// Notes, for placement, that what is behind this code may wait for that runner any time until the edges are dropped.
pub fn may_wait_for(py: Python<'_>, runner: &Runner) -> PyResult<[Option<Awaiting>; 2]> {
    let edge = |behind: Arc<Node>| {
        let is_other = !Arc::ptr_eq(&behind, &runner.node);
        is_other.then(|| behind.awaits(&runner.node))
    };
    Ok(Behind::here(py)?.0.map(|behind| behind.and_then(edge)))
}
