//! Which call's coroutine runs a step in this thread.

use super::extras::Extras;
use super::observed::Observed;
use super::state::Call;
use crate::python::leaky::Leaky;
use crate::python::process::{self, Inside};
use pyo3::prelude::*;
use std::sync::Arc;

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
    /// Only calls that a worker's job waits for may run on loops that are not ours. Those are not closed at exit, so
    /// the exit has to know that code runs here.
    _inside: Option<Inside>,
    observed: Option<&'a Observed>,
}

impl<'a> SpecialStep<'a> {
    #[cold]
    fn begin(py: Python<'_>, extras: &'a Extras<Call>) -> Self {
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
