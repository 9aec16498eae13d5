//! How an outcome gets to a future, or to a task of another loop: nobody is there who could look.
//!
//! A cancellation that nobody has asked for may come from the end of a loop that somebody else runs: whoever does cancels all
//! tasks first, and closes the loop soon. So it is held back for a moment. If nobody runs the loop by then, an error that says
//! so arrives, as with a thread that waits (`Runner::is_about_to_be_gone`).

use super::extras::Extras;
use super::home::LoopOfOthers;
use super::outcome::{Outcome, is_cancelled, settle_future};
use super::state::{Call, log_late_error};
use super::taker::{Promised, Taker};
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, take};

/// For how long a cancellation is held back. It is looked at by _standing.py, which does so ten times a second.
const HELD_BACK: Duration = Duration::from_millis(100);

impl Call {
    /// A future's call, or one that a task awaits, has ended.
    pub(super) fn hand_on(self: &Arc<Self>, py: Python<'_>, outcome: Outcome) {
        let outcome = self.explained(py, outcome);
        if let Some(outcome) = self.hold_back(py, outcome) {
            self.tell_taker(py, outcome);
        }
    }

    /// The loop of a call was closed, or is left behind as something blocks it, before the call has ended. Lets the
    /// future, or the task, that waits for it raise that error. False if it was told before.
    pub fn leave_behind(&self, py: Python<'_>, error: PyErr) -> bool {
        // Before the taker is taken: a `settle` that comes after that finds none, and has to log an error.
        self.abandon(py);
        self.tell_taker(py, Outcome::Raised(error))
    }

    /// False if it was told before, or is a thread, which looks by itself.
    fn tell_taker(&self, py: Python<'_>, outcome: Outcome) -> bool {
        match &self.taker {
            Taker::Future(promised) => {
                let Some(Promised { future, keeps }) = take(promised) else { return false };
                self.stats.ended.add(1);
                let has_taken = signals::through(py, || settle_future(future.bind(py), &outcome));
                if let Outcome::Raised(error) = &outcome
                    && has_taken == Some(false)
                {
                    log_late_error(py, error);
                }
                drop(keeps);
                // Whoever waits for the future is no operation of this thread's.
                signals::pass_on(py);
            }
            Taker::Task(receiver) => {
                let Some(receiver) = take(receiver) else { return false };
                Arc::clone(&receiver).receive(py, outcome);
                receiver.publish();
            }
            Taker::Sleeper { .. } | Taker::SleeperOfOthers | Taker::Driver { .. } => return false,
        }
        true
    }

    /// If such a call was cancelled by the closing of its loop, an error that says so; else the outcome as it is.
    fn explained(&self, py: Python<'_>, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Raised(error) if self.is_closing() && is_cancelled(py, &error) => {
                Outcome::Raised(errors::from_cause(py, errors::closed_meanwhile(py, &self.runner_name()), error))
            }
            outcome => outcome,
        }
    }

    /// Gives the outcome back if it is to arrive at once.
    fn hold_back(self: &Arc<Self>, py: Python<'_>, outcome: Outcome) -> Option<Outcome> {
        let Outcome::Raised(error) = &outcome else { return Some(outcome) };
        if self.was_cancelled() || !is_cancelled(py, error) {
            return Some(outcome);
        }
        let Some(host) = self.known_extras().and_then(Extras::host) else { return Some(outcome) };
        let error = Mutex::new(Some(error.clone_ref(py)));
        let held = HeldBack { call: Arc::clone(self), host, error, since: Instant::now() };
        let Ok(held) = Bound::new(py, held) else { return Some(outcome) };
        let watched = signals::through(py, || names::watch_standing(py)?.call1((&held,)).map(drop));
        // Where no thread starts any more, as at the exit, nobody would look.
        if watched.is_some() { None } else { Some(outcome) }
    }
}

/// A cancellation that is held back, as _standing.py looks at it.
#[pyclass(frozen, module = "syncline._core")]
struct HeldBack {
    call: Arc<Call>,
    host: Arc<dyn LoopOfOthers>,
    error: Mutex<Option<PyErr>>,
    since: Instant,
}

#[pymethods]
impl HeldBack {
    /// Tells the taker, once it is known what. False if that is done.
    fn look(&self, py: Python<'_>) -> bool {
        // It tells other loops, which is Python code of theirs: the exit waits for that.
        let _inside = process::step_inside_unless_left(py);
        let runs = self.host.runs(py);
        if runs && self.since.elapsed() < HELD_BACK {
            return true;
        }
        if let Some(error) = take(&self.error) {
            let error = if runs { error } else { errors::from_cause(py, self.host.gone(py), error) };
            self.call.tell_taker(py, Outcome::Raised(error));
        }
        false
    }
}
