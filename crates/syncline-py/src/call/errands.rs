//! Errands: sync functions that a coroutine has run by the thread that waits for it.
//!
//! Invariants:
//! 1. The errands of a call run in the thread that waits for the call, one after the other, each as a whole. What one
//!    of them waits for does not run another one of the same call: sync code is not entered in the middle.
//! 2. Each ends once: it is run, refused, or withdrawn by the task that wanted it. Once the thread has stopped waiting,
//!    none lies here, and none comes any more.

use super::outcome::Outcome;
use crate::python::left_behind::BusyThread;
use crate::python::signals;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock, replace};

pub trait Errand: Send + Sync {
    /// Runs it, in the thread that waits. Raises what a signal handler raised in the middle of it; then nobody has been
    /// told of its end.
    fn run(&self, py: Python<'_>) -> PyResult<()>;
    /// It will not be run, or was broken off. For any thread.
    fn refuse(&self, py: Python<'_>);
}

/// What came of an errand's function. Raises what a signal handler raised in the middle of it.
pub fn outcome_of(py: Python<'_>, ran: PyResult<Bound<'_, PyAny>>) -> PyResult<Outcome> {
    match ran {
        Ok(value) => Ok(Outcome::Returned(value.unbind())),
        Err(error) if signals::are_handlers(py, &error) => Err(error),
        Err(error) => Ok(Outcome::Raised(error)),
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<dyn Errand>>,
    /// Those in which a signal handler has raised: nobody was told of their end. The wait ends for that, and `close`
    /// refuses them.
    broken_off: Vec<Arc<dyn Errand>>,
    is_closed: bool,
}

#[derive(Default)]
pub struct Errands(Mutex<State>);

impl Errands {
    /// False if the thread has stopped waiting.
    pub fn add(&self, errand: Arc<dyn Errand>) -> bool {
        let mut state = lock(&self.0);
        if !state.is_closed {
            state.queue.push_back(errand);
        }
        !state.is_closed
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_closed
    }

    pub fn are_there(&self) -> bool {
        !lock(&self.0).queue.is_empty()
    }

    fn next(&self) -> Option<Arc<dyn Errand>> {
        lock(&self.0).queue.pop_front()
    }

    /// Runs the next one. `None`: there is none.
    pub fn run_next(&self, py: Python<'_>) -> Option<PyResult<()>> {
        let errand = self.next()?;
        let ran = {
            let _busy = BusyThread::here(py);
            errand.run(py)
        };
        if ran.is_err() {
            lock(&self.0).broken_off.push(errand);
        }
        Some(ran)
    }

    /// The call has ended: runs those that came before that, and takes no more.
    pub fn run_last(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.0).is_closed = true;
        while let Some(ran) = self.run_next(py) {
            ran?;
        }
        Ok(())
    }

    /// The thread waits no longer.
    pub fn close(&self, py: Python<'_>) {
        let state = replace(&self.0, State { is_closed: true, ..State::default() });
        for errand in state.queue.into_iter().chain(state.broken_off) {
            errand.refuse(py);
        }
    }
}
