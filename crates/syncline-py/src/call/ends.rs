//! Waiting for loops to end. A loop that is blocked is left behind in the end.
//!
//! Hundreds of threads that all want the interpreter wake each other up without end: each of them looks after it every
//! 5 ms. So many loops are told to end one wave after the other: 1,600 at once took a minute, in waves half a second.

use super::outcome::Outcome;
use super::wait::{Awaited, Fate, Patience, Wait};
use crate::python::errors;
use crate::python::log;
use crate::python::process;
use crate::python::residents::Resident;
use crate::python::signals;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What ending may take beyond the cleanup time, for a busy machine.
const SLACK: Duration = Duration::from_secs(1);
/// How often the wait looks for signals: one that another thread received does not wake this one.
const TICK: Duration = Duration::from_millis(50);
/// How long the wait sleeps between two looks at a thread whose loop has ended, and which makes its last few steps.
const LAST_STEPS: Duration = Duration::from_micros(50);
/// How many loops are told at a time.
const WAVE: usize = 32;
/// A wave that has not ended by then does not hold up the next one.
const WAVE_TIME: Duration = Duration::from_millis(10);

/// Waits for the ends of loops that were told to end at `begun`, and of others, which it tells: for at most twice their
/// cleanup time and a second, however many there are. Threads that wait for a future of such a loop are told half a
/// second after the cleanup time: they do not wait through the package, and would never learn that the loop is blocked.
pub fn wait_for_ends(
    py: Python<'_>,
    told: Vec<Arc<dyn Resident>>,
    untold: Vec<Arc<dyn Resident>>,
    begun: Instant,
) -> PyResult<()> {
    let cleanup = told.iter().chain(&untold).map(|resident| resident.cleanup()).max().unwrap_or_default();
    let mut ends = Ends { residents: told, untold, next_wave: begun, cleanup, begun, have_freed: false };
    let waited = Wait::begin(Patience::endless()).wait_for(py, &mut ends);
    // Where a signal handler has ended the wait, or the process exits.
    ends.tell(py, ends.untold.len());
    waited
}

struct Ends {
    /// Those that may not have ended; the last one has not.
    residents: Vec<Arc<dyn Resident>>,
    untold: Vec<Arc<dyn Resident>>,
    /// When the next wave is told, if the last one has not ended before.
    next_wave: Instant,
    /// How long the most patient one's tasks may clean up.
    cleanup: Duration,
    begun: Instant,
    have_freed: bool,
}

impl Ends {
    fn tell(&mut self, py: Python<'_>, count: usize) {
        let wave = self.untold.split_off(self.untold.len().saturating_sub(count));
        for resident in &wave {
            Arc::clone(resident).begin_end(py);
        }
        self.residents.extend(wave);
        self.next_wave = Instant::now() + WAVE_TIME;
    }

    fn frees_at(&self) -> Option<Instant> {
        self.begun.checked_add(self.cleanup.checked_add(SLACK / 2)?)
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.begun.checked_add(self.cleanup.checked_mul(2)?.checked_add(SLACK)?)
    }

    fn is_past(at: Option<Instant>) -> bool {
        at.is_some_and(|at| at <= Instant::now())
    }

    fn free(&mut self, py: Python<'_>) {
        self.have_freed = true;
        for resident in &self.residents {
            resident.free_waiters(py);
        }
    }
}

impl Awaited for Ends {
    type Output = ();

    fn take(&mut self, py: Python<'_>) -> Option<Outcome<()>> {
        // One after the other: if each look went through all of them, many would take the square of their time.
        let is_over = |resident: &mut Arc<dyn Resident>| resident.has_ended() && !resident.is_about_to_end(py);
        while let Some(ended) = self.residents.pop_if(is_over) {
            drop(ended);
        }
        if !self.untold.is_empty() && (self.residents.is_empty() || Self::is_past(Some(self.next_wave))) {
            self.tell(py, WAVE);
        }
        if self.residents.is_empty() {
            return Some(Outcome::Returned(()));
        }
        if !Self::is_past(self.gives_up_at()) {
            return None;
        }
        self.abandon(py, None);
        for resident in self.residents.iter().filter(|resident| !resident.has_ended()) {
            let what = resident.description();
            log::log(py, "warning", &format!("{what} does not end: something blocks it; it is left behind"), None);
        }
        Some(Outcome::Returned(()))
    }

    fn fate(&mut self, _py: Python<'_>) -> Fate {
        Fate::Runs
    }

    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()> {
        let Some(next) = self.residents.last() else { return Ok(()) };
        let next_wave = (!self.untold.is_empty()).then_some(self.next_wave);
        let due = [due, next_wave].into_iter().flatten().min();
        let left = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        process::sleep(py, || {
            if next.has_ended() {
                std::thread::sleep(LAST_STEPS);
            } else {
                let _ = next.ended().wait(Some(left));
            }
        });
        Ok(())
    }

    fn cancel(&mut self, _py: Python<'_>) {}

    fn look_after(&mut self, py: Python<'_>, _now: Instant) -> PyResult<()> {
        if !self.have_freed && Self::is_past(self.frees_at()) {
            self.free(py);
        }
        Ok(())
    }

    fn next_look(&self, _now: Instant) -> Option<Instant> {
        if self.have_freed { self.gives_up_at() } else { self.frees_at() }
    }

    /// Nobody is left waiting for a future.
    fn abandon(&mut self, py: Python<'_>, _waited_for_cleanup: Option<Duration>) {
        if !self.have_freed {
            self.free(py);
        }
    }

    fn closed(&self, _py: Python<'_>) -> PyErr {
        errors::shutting_down()
    }

    fn is_closing(&self, _py: Python<'_>) -> bool {
        false
    }
}

/// For a destructor, or the end of a thread, which can't raise: what a signal handler raises meanwhile, the
/// interpreter raises later in the main thread.
pub fn wait_for_ends_quietly(py: Python<'_>, residents: Vec<Arc<dyn Resident>>, begun: Instant) {
    if let Err(error) = wait_for_ends(py, residents, Vec::new(), begun) {
        signals::keep_and_pass_on(py, error);
    }
}
