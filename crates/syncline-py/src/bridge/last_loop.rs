//! The loop of a bridge's calls in one thread where the process exits, and no thread can be started for a runner any more.
//!
//! Invariants:
//! 1. It is shared by all that is open there, and ends with the last of it. So what is made in the block of a manager, or
//!    between two steps of an iterator, is on the loop of that one, as on a runner.

use super::caller_loop::CallerLoop;
use super::shared::Shared;
use crate::python::process;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

pub struct LastLoop {
    pub own: Arc<CallerLoop>,
    bridge: u64,
}

thread_local! {
    static HERE: RefCell<Vec<Weak<LastLoop>>> = const { RefCell::new(Vec::new()) };
}

impl LastLoop {
    fn serves(&self, shared: &Shared) -> bool {
        let own = &self.own;
        self.bridge == shared.terms.bridge && own.epoch == process::epoch() && own.takes_calls() && !own.is_busy()
    }

    /// To be called by all that have used it, in its own thread (1).
    pub fn leave(self: Arc<Self>, py: Python<'_>) -> PyResult<()> {
        Arc::into_inner(self).map_or(Ok(()), |last| last.own.close(py))
    }
}

impl Shared {
    /// The loop that this thread has by now, or a new one. Not where a loop runs.
    pub fn last_loop(&self, py: Python<'_>) -> PyResult<Arc<LastLoop>> {
        let known = HERE.with_borrow(|here| here.iter().filter_map(Weak::upgrade).find(|known| known.serves(self)));
        if let Some(known) = known {
            return Ok(known);
        }
        let own = self.make_own_loop(py)?;
        let last = Arc::new(LastLoop { own, bridge: self.terms.bridge });
        HERE.with_borrow_mut(|here| {
            here.retain(|known| known.strong_count() > 0);
            here.push(Arc::downgrade(&last));
        });
        Ok(last)
    }
}
