//! A first step on a thread's own loop, outside of its turns.

use crate::python::asyncgen_hooks::Exchanged;
use crate::python::names;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What we know of a loop of our class, which can make a first step outside of its turns.
pub struct OutOfTurn {
    /// Its hooks for async generators.
    hooks: Py<PyTuple>,
    ready: Py<PyAny>,
}

impl OutOfTurn {
    pub fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let hooks = event_loop.getattr(intern!(py, "hooks"))?.cast_into::<PyTuple>()?.unbind();
        Ok(Self { hooks, ready: event_loop.getattr(intern!(py, "_ready"))?.unbind() })
    }

    pub fn stand_in<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<StandingIn<'py>> {
        StandingIn::enter(event_loop, self.hooks.bind(event_loop.py()))
    }

    /// Whether nothing is ready or scheduled there.
    pub fn is_idle(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = event_loop.py();
        Ok(self.ready.bind(py).len()? == 0 && event_loop.getattr(intern!(py, "_scheduled"))?.len()? == 0)
    }
}

/// Does what `run_forever` does around its turns. While it lives, the loop is the running one, and the one that
/// finalizes the async generators that are begun meanwhile.
pub struct StandingIn<'py> {
    py: Python<'py>,
    _hooks: Exchanged<'py>,
}

impl<'py> StandingIn<'py> {
    fn enter(event_loop: &Bound<'py, PyAny>, hooks: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let py = event_loop.py();
        let this = Self { py, _hooks: Exchanged::new(hooks)? };
        names::set_running_loop(py)?.call1((event_loop,))?;
        Ok(this)
    }
}

impl Drop for StandingIn<'_> {
    fn drop(&mut self) {
        let left = names::set_running_loop(self.py).and_then(|set| set.call1((self.py.None(),)));
        if let Err(error) = left {
            error.write_unraisable(self.py, None);
        }
    }
}
