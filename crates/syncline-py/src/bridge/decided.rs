//! What the core has decided by itself, and why: for `syncline.doctor()`.

use super::options::Bridge;
use crate::runner::state::Runner;
use crate::switch::greenlets;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use syncline_core::spin::{BUDGET, Inclination, PROBE, Spin, usable_cores};

/// Whether threads spin before they sleep, and on which loops of this bridge.
#[pyfunction]
#[pyo3(signature = (bridge, /))]
pub fn spin_policy<'py>(py: Python<'py>, bridge: &Bridge) -> PyResult<Bound<'py, PyDict>> {
    let policy = PyDict::new(py);
    policy.set_item("usable_cores", usable_cores())?;
    policy.set_item("spin_seconds", BUDGET.as_secs_f64())?;
    policy.set_item("probe_seconds", PROBE.as_secs_f64())?;
    let shared = bridge.look();
    let runners = if shared.is_closed() { Vec::new() } else { shared.registry().alive() };
    let loops = PyList::empty(py);
    for runner in runners.iter().chain(&shared.attached).filter(|runner| !runner.has_ended()) {
        loops.append(described(py, runner)?)?;
    }
    policy.set_item("loops", loops)?;
    Ok(policy)
}

fn described<'py>(py: Python<'py>, runner: &Runner) -> PyResult<Bound<'py, PyDict>> {
    let said = PyDict::new(py);
    said.set_item("name", &*runner.name)?;
    said.set_item("thread", runner.thread_id())?;
    said.set_item("event_loop", runner.event_loop(py))?;
    said.set_item("callers", inclination(py, &runner.caller_spin)?)?;
    said.set_item("loop", inclination(py, &runner.loop_spin)?)?;
    Ok(said)
}

fn inclination<'py>(py: Python<'py>, spin: &Spin) -> PyResult<Bound<'py, PyDict>> {
    let Inclination { allowed, failures, passes_over } = spin.inclination();
    let (won, lost) = spin.counts();
    let said = PyDict::new(py);
    said.set_item("allowed", allowed)?;
    said.set_item("won", won)?;
    said.set_item("lost", lost)?;
    said.set_item("failures_in_a_row", failures)?;
    said.set_item("passes_over", passes_over)?;
    Ok(said)
}

/// Why nested calls can't await in place in this process; `None` if they can. Imports greenlet.
#[pyfunction]
pub fn why_no_switching(py: Python<'_>) -> Option<String> {
    greenlets::load(py).err().map(|error| error.value(py).to_string())
}
