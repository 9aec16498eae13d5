//! Loops of bridges with `stall_after`, as the watcher sees them (_watcher.py).
//!
//! Invariants:
//! 1. A loop that says by itself when it turns and when it sleeps is only looked at. Any other is asked to turn at each
//!    look, in the way in which it gets its mail: one that has not turned by the next look is blocked.
//! 2. Whoever gives such a loop something to do stirs the watcher, which sleeps while no loop has anything.

use crate::python::names;
use crate::python::process;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What is seen of a loop in one look: how often it has turned, whether nothing of it runs, its thread, the loop itself,
/// and its name.
pub type Glance<'py> = (u64, bool, u64, Option<Bound<'py, PyAny>>, String);

/// A loop that is watched.
pub trait Watched: Send + Sync {
    /// `None` if it has ended. `asked` is the watcher's: the turn in which the loop was last asked to turn, plus one.
    fn look<'py>(self: Arc<Self>, py: Python<'py>, asked: &AtomicU64) -> Option<Glance<'py>>;
}

#[pyclass(frozen, module = "syncline._core")]
struct WatchedLoop {
    watched: Weak<dyn Watched>,
    asked: AtomicU64,
}

#[pymethods]
impl WatchedLoop {
    fn look<'py>(&self, py: Python<'py>) -> Option<Glance<'py>> {
        // Asking a loop runs Python code below this frame, and the exit waits for that.
        let _inside = process::enter(py).ok()?;
        self.watched.upgrade()?.look(py, &self.asked)
    }
}

/// Has the loop watched from now on.
pub fn watch(py: Python<'_>, watched: Weak<dyn Watched>, stall_after: Duration) -> PyResult<()> {
    let watched = WatchedLoop { watched, asked: AtomicU64::new(0) };
    names::watch_loop(py)?.call1((watched, stall_after.as_secs_f64())).map(drop)
}

/// A loop that is watched has something to do.
#[cold]
pub fn stir(py: Python<'_>) {
    signals::through(py, || names::stir_watcher(py)?.call0().map(drop));
}

/// A loop that is watched has ended.
#[cold]
pub fn leave(py: Python<'_>) {
    signals::through(py, || names::watched_has_ended(py)?.call0().map(drop));
}
