//! What all parts of a bridge share: its options, its loops, its counters.
//!
//! Invariants:
//! 1. In a forked child a bridge begins anew, without runners.

use super::caller_loop::CallerLoop;
use crate::call::wait::Patience;
use crate::python::errors;
use crate::python::process;
use crate::runner::registry::Registry;
use crate::runner::state::Runner;
use crate::switch::nest::Terms;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process,
    Thread,
    Caller,
}

pub struct Shared {
    pub terms: Terms,
    pub name: String,
    pub scope: Scope,
    pub nested_is_error: bool,
    /// Whether a call in a worker thread runs on the loop that sent the worker.
    pub joins_sender: bool,
    pub loop_factory: Option<Py<PyAny>>,
    pub cleanup: Duration,
    pub stall_after: Option<Duration>,
    pub closed: AtomicBool,
    /// With the epoch that it belongs to (by 1).
    pub registry: Mutex<(u32, Arc<Registry>)>,
    /// Runners whose threads were started, and that the registry may not have yet.
    pub starting: Mutex<Vec<Weak<Runner>>>,
    /// Runners that `close` has told to end.
    pub closing: Mutex<Vec<Arc<Runner>>>,
    /// Scope "caller": the threads' own loops.
    pub own_loops: Mutex<Vec<Weak<CallerLoop>>>,
}

/// Keeps the bridge's loops alive. The object that users have holds one, and so does each call of `submit` until it
/// ends. When the last one is dropped, the loops end.
pub struct Hold {
    pub shared: Arc<Shared>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Nobody can call the bridge any more. Its threads end, and nobody waits for that.
        Python::try_attach(|py| {
            if !self.shared.is_closed() {
                errors::keeping_raised(py, || self.shared.close_when_dropped(py));
            }
        });
    }
}

impl Shared {
    pub fn registry(&self) -> Arc<Registry> {
        let mut registry = lock(&self.registry);
        if registry.0 != process::epoch() {
            // By 1. The parent's runners are never freed in the child.
            let parents = std::mem::replace(&mut *registry, (process::epoch(), Registry::new()));
            std::mem::forget(parents);
        }
        Arc::clone(&registry.1)
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    pub fn patience(&self, timeout: Option<Duration>) -> Patience {
        Patience { begun: Instant::now(), timeout, cleanup: self.cleanup, stall_after: self.stall_after }
    }
}
