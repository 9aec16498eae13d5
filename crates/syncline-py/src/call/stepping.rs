//! Which call's coroutine runs a step in this thread.

use super::extras::Extras;
use super::observed::Observed;
use super::state::Call;
use crate::python::leaky::Leaky;
use crate::python::process::{self, Inside};
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
    let _special = call.known_extras().map(|extras| SpecialStep::begin(py, extras));
    let outer = STEPPING.with(|stepping| stepping.replace(Some(Arc::clone(call))));
    let result = step();
    drop(STEPPING.with(|stepping| stepping.replace(outer)));
    result
}

/// A step of one of the few calls that have extras.
struct SpecialStep<'a> {
    /// Only calls that a worker's job waits for may run on loops that are not ours. Those are not closed at exit, so the
    /// exit has to know that code runs here.
    _inside: Option<Inside>,
    observed: Option<&'a Observed>,
}

impl<'a> SpecialStep<'a> {
    #[cold]
    fn begin(py: Python<'_>, extras: &'a Extras) -> Self {
        let inside = extras.has_waiter().then(|| process::step_inside_unless_left(py));
        let observed = extras.observed();
        observed.into_iter().for_each(Observed::begin_step);
        Self { _inside: inside, observed }
    }
}

impl Drop for SpecialStep<'_> {
    #[cold]
    fn drop(&mut self) {
        self.observed.into_iter().for_each(Observed::end_step);
    }
}

/// The call of which this thread runs a step.
pub fn stepped_call() -> Option<Arc<Call>> {
    STEPPING.with(Leaky::cloned)
}

pub fn is_stepping() -> bool {
    STEPPING.with(Leaky::is_some)
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
