//! A first step on a thread's own loop, outside of its turns.

use crate::python::names;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Does what `run_forever` does around its turns. While it lives, the loop is the running one, and the one that
/// finalizes the async generators that are begun meanwhile.
pub struct StandingIn<'py> {
    outer_hooks: Bound<'py, PyTuple>,
}

impl<'py> StandingIn<'py> {
    pub fn enter(event_loop: &Bound<'py, PyAny>, hooks: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let py = event_loop.py();
        let outer_hooks = names::get_asyncgen_hooks(py)?.call0()?.cast_into::<PyTuple>()?;
        names::set_asyncgen_hooks(py)?.call1(hooks)?;
        let this = Self { outer_hooks };
        names::set_running_loop(py)?.call1((event_loop,))?;
        Ok(this)
    }

    fn leave(&self) -> PyResult<()> {
        let py = self.outer_hooks.py();
        names::set_running_loop(py)?.call1((py.None(),))?;
        names::set_asyncgen_hooks(py)?.call1(&self.outer_hooks).map(drop)
    }
}

impl Drop for StandingIn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            error.write_unraisable(self.outer_hooks.py(), None);
        }
    }
}
