//! The thread of a loop begins to wait for a call on another one: what must not wait for this loop meanwhile.

use super::shared::Shared;
use crate::call::state::Call;
use crate::python::process;
use crate::runner::moving::{self, Places};
use crate::runner::state::{Runner, current_runner};
use crate::worker::behind::Behind;
use pyo3::prelude::*;
use std::sync::{Arc, Weak};
use syncline_core::waits::{Edge, Node};

/// While it lives, the thread waits. Dropped by that thread.
pub struct Blocking<'a> {
    edge: Edge<'a>,
    _publishes: Option<Publishes>,
}

/// Results are published at once, as long as nobody comes round to do it.
struct Publishes(Arc<Runner>);

impl Publishes {
    fn begin(runner: &Arc<Runner>) -> Option<Self> {
        let was_deferring = runner.outbox.stop_deferring();
        let _ = runner.outbox.flush();
        was_deferring.then(|| Self(Arc::clone(runner)))
    }
}

impl Drop for Publishes {
    fn drop(&mut self) {
        self.0.outbox.start_deferring();
    }
}

impl<'a> Blocking<'a> {
    /// `here` is the node of the loop that runs in this thread. Calls for that loop which `other` may wait for, and which
    /// have not begun, run elsewhere.
    pub fn begin(py: Python<'_>, here: &'a Arc<Node>, other: &Arc<Node>) -> PyResult<Self> {
        let edge = here.begin_wait(other);
        let Some(runner) = current_runner() else { return Ok(Self { edge, _publishes: None }) };
        let publishes = Publishes::begin(&runner);
        runner.move_calls(py)?;
        Ok(Self { edge, _publishes: publishes })
    }

    /// Whether what this thread waits for waits for this thread.
    pub fn closes_circle(&self) -> bool {
        self.edge.closes_circle()
    }
}

impl Shared {
    /// Notes whose code sends the call.
    pub fn note_origin(self: &Arc<Self>, py: Python<'_>, call: &Call) -> PyResult<()> {
        let known: Weak<Self> = Arc::downgrade(self);
        moving::note_origin(call, Behind::here(py)?.0, known);
        Ok(())
    }
}

impl Places for Shared {
    fn runner_instead_of(self: Arc<Self>, py: Python<'_>, runner: &Arc<Runner>) -> PyResult<Arc<Runner>> {
        let _inside = process::enter(py)?;
        self.level(py, runner.key.level_above(), self.patience(None), |above| above.node.is_waiting())?.runner()
    }
}
