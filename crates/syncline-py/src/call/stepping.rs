//! Which call's coroutine runs a step in this thread.

use super::state::Call;
use crate::python::leaky::Leaky;
use crate::python::process;
use pyo3::prelude::*;
use std::sync::Arc;

thread_local! {
    static STEPPING: Leaky<Arc<Call>> = const { Leaky::new() };
}

/// Runs `step` as a part of `call`.
pub fn stepping<T>(py: Python<'_>, call: &Arc<Call>, step: impl FnOnce() -> T) -> T {
    // The only calls that may run on loops which are not ours.
    let _inside = call.has_waiter().then(|| process::step_inside_unless_left(py));
    let outer = STEPPING.with(|stepping| stepping.replace(Some(Arc::clone(call))));
    let result = step();
    drop(STEPPING.with(|stepping| stepping.replace(outer)));
    result
}

/// The call whose coroutine this thread runs a step of.
pub fn stepped_call() -> Option<Arc<Call>> {
    STEPPING.with(Leaky::cloned)
}
