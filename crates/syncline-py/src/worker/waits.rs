//! The calls that the function of a work waits for.

use super::inbox::Inbox;
use crate::call::state::Call;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};
use syncline_core::waits::{Awaiting, Node};

/// What becomes of a call for which a function in a worker thread waits, if nobody waits for the function any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    End,
    GoOn,
}

struct WaitsFor {
    call: Arc<Call>,
    on_cancel: OnCancel,
    /// For placement, where it runs on a runner, and another one, or the same, sent the thread.
    _awaiting: Option<Awaiting>,
}

/// Each is made inside of the one before.
#[derive(Default)]
pub struct Waits(Mutex<Vec<WaitsFor>>);

impl Waits {
    /// Adds a call on the loop of that node, which the loop that sent the thread waits for, too, if only in a task.
    pub fn add(
        &self,
        py: Python<'_>,
        call: &Arc<Call>,
        on_cancel: OnCancel,
        sender: Option<&Arc<Inbox>>,
        node: Option<&Arc<Node>>,
    ) {
        let sender = node.and_then(|_| sender?.node(py));
        let awaiting = sender.zip(node).map(|(sender, node)| sender.awaits(node));
        lock(&self.0).push(WaitsFor { call: Arc::clone(call), on_cancel, _awaiting: awaiting });
    }

    pub fn end_last(&self) {
        let ended = lock(&self.0).pop();
        drop(ended);
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Those that end if the task stops waiting.
    pub fn to_end(&self) -> Vec<Arc<Call>> {
        let waits = lock(&self.0);
        let to_end = waits.iter().filter(|waits| waits.on_cancel == OnCancel::End);
        to_end.map(|waits| Arc::clone(&waits.call)).collect()
    }
}
