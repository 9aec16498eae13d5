//! Which call's coroutine runs a step in this thread.

use super::state::Call;
use crate::python::leaky::Leaky;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Instant;

thread_local! {
    static STEPPING: Leaky<Arc<Call>> = const { Leaky::new() };
}

/// Runs `step` as a part of `call`.
pub fn stepping<T>(py: Python<'_>, call: &Arc<Call>, step: impl FnOnce() -> T) -> T {
    // Only calls that a worker's job waits for may run on loops that are not ours. Those are not closed at exit, so
    // the exit has to know that code runs here.
    let _inside = call.has_waiter().then(|| process::step_inside_unless_left(py));
    let outer = STEPPING.with(|stepping| stepping.replace(Some(Arc::clone(call))));
    let result = step();
    drop(STEPPING.with(|stepping| stepping.replace(outer)));
    result
}

/// The call of which this thread runs a step.
pub fn stepped_call() -> Option<Arc<Call>> {
    STEPPING.with(Leaky::cloned)
}

/// Whether a nested call that blocks its loop is to end, since the call around it, `outer`, is to be cancelled. The
/// loop can't deliver that cancellation while it is blocked; the nested call delivers it by what it raises.
pub fn outer_ends(py: Python<'_>, outer: Option<&Arc<Call>>, now: Instant) -> bool {
    let Some(outer) = outer.filter(|outer| outer.is_to_be_cancelled(now)) else { return false };
    outer.take_over_cancelling();
    if !signals::ask(py, || surroundings::is_in_trio_task(py)) {
        return true;
    }
    // Code in trio may raise `Cancelled` only where a scope around it is cancelled, so the task is cancelled first.
    // Where the code is shielded from that, it goes on.
    let is_cancelled = outer.cancel(py).and_then(|()| surroundings::is_cancelled_in_trio(py));
    is_cancelled.unwrap_or_else(|error| {
        error.write_unraisable(py, None);
        false
    })
}
