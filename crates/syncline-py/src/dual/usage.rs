//! In which world an object is used, and whether a thread uses it at the moment: invariant 1 of mod.rs.

use super::binding::Binding;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum World {
    #[default]
    Neither,
    Sync,
    Async,
    /// In async code, by steps on the bridge's loop.
    Home,
}

#[derive(Default)]
struct State {
    world: World,
    in_use: bool,
    finished: bool,
    binding: Option<Arc<Binding>>,
}

#[derive(Default)]
pub struct Usage(Mutex<State>);

/// While it lives, a step is being made in sync code, and no other may begin.
pub struct InUse<'a>(&'a Usage);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).in_use = false;
    }
}

impl Usage {
    /// Begins a step in sync code. `name` gives the words of messages for the object.
    pub fn begin_sync(&self, name: impl FnOnce() -> String) -> PyResult<InUse<'_>> {
        let mut state = lock(&self.0);
        if matches!(state.world, World::Async | World::Home) {
            drop(state);
            return Err(PyRuntimeError::new_err(format!(
                "{} is in use in async code and belongs to that event loop; go on there, with `async for`, `async with` \
                 or `await`",
                name()
            )));
        }
        if state.in_use {
            drop(state);
            return Err(PyValueError::new_err(format!(
                "{} is already executing: another thread, or one of its own steps, uses it; let one thread use it at a \
                 time, or make one for each",
                name()
            )));
        }
        state.world = World::Sync;
        state.in_use = true;
        Ok(InUse(self))
    }

    /// Notes that the object is used in async code. True if its steps are made on the bridge's loop, as `goes_home`
    /// says at the first of them.
    pub fn begin_async(
        &self,
        name: impl FnOnce() -> String,
        goes_home: impl FnOnce() -> PyResult<bool>,
    ) -> PyResult<bool> {
        let world = lock(&self.0).world;
        match world {
            World::Async => Ok(false),
            World::Home => Ok(true),
            World::Sync => Err(PyRuntimeError::new_err(format!(
                "{} is in use in sync code, and its bridge's event loop has it; go on with `for`, `with`, `next` or `send`",
                name()
            ))),
            World::Neither => {
                let goes_home = goes_home()?;
                lock(&self.0).world = if goes_home { World::Home } else { World::Async };
                Ok(goes_home)
            }
        }
    }

    pub fn is_at_home(&self) -> bool {
        lock(&self.0).world == World::Home
    }

    /// Begins a step that async code has made on the bridge's loop. Until `end_step` no other may begin.
    pub fn begin_step(&self, name: impl FnOnce() -> String) -> PyResult<()> {
        if std::mem::replace(&mut lock(&self.0).in_use, true) {
            return Err(PyRuntimeError::new_err(format!(
                "{} is already running: another task is in the middle of one of its steps; let one task use it at a time, \
                 or make one for each",
                name()
            )));
        }
        Ok(())
    }

    pub fn end_step(&self) {
        lock(&self.0).in_use = false;
    }

    /// Whether the object has nothing begun in sync code and is not used up: then a copy of it can take its place.
    pub fn is_at_rest(&self) -> bool {
        let state = lock(&self.0);
        !state.in_use && !state.finished && state.binding.is_none()
    }

    pub fn is_finished(&self) -> bool {
        lock(&self.0).finished
    }

    pub fn binding(&self) -> Option<Arc<Binding>> {
        lock(&self.0).binding.clone()
    }

    /// The binding, which is taken at the first step.
    pub fn binding_or(&self, open: impl FnOnce() -> PyResult<Binding>) -> PyResult<Arc<Binding>> {
        if let Some(binding) = self.binding() {
            return Ok(binding);
        }
        let binding = Arc::new(open()?);
        lock(&self.0).binding = Some(Arc::clone(&binding));
        Ok(binding)
    }

    /// No more steps can be made. Returns the binding, the first time.
    pub fn finish(&self) -> Option<Arc<Binding>> {
        let mut state = lock(&self.0);
        state.finished = true;
        state.binding.take()
    }

    /// Makes it ready for another use: a manager may be entered again after it was left.
    pub fn reset(&self) {
        let freed = std::mem::take(&mut lock(&self.0).binding);
        drop(freed);
    }
}
