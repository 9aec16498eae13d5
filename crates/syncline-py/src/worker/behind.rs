//! Which loop is behind the code that runs in this thread.

use super::inbox::Inbox;
use super::work::{self, Work};
use crate::runner::state::{Runner, current_runner};
use std::sync::Arc;
use syncline_core::waits::Awaiting;

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

/// The runner whose loop this thread drives, or else that sent this thread: what goes on there may wait for what this
/// thread waits for.
pub fn runner_behind() -> Option<Arc<Runner>> {
    current_runner().or_else(sending_runner)
}

/// Notes, for placement, that what is behind this code may wait for that runner any time until the edge is dropped.
pub fn may_wait_for(runner: &Arc<Runner>) -> Option<Awaiting> {
    let behind = runner_behind().filter(|behind| !Arc::ptr_eq(behind, runner))?;
    Some(behind.node.awaits(&runner.node))
}
