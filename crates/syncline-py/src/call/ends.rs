//! Waiting for loops to end, after they were told to. A loop that is blocked is left behind in the end.

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

/// Waits for the ends of loops that were told to end at `begun`: for at most twice their cleanup time and a second,
/// however many there are. Threads that wait for a future of such a loop are told half a second after the cleanup
/// time: they do not wait through the package, and would never learn that the loop is blocked.
pub fn wait_for_ends(py: Python<'_>, residents: Vec<Arc<dyn Resident>>, begun: Instant) -> PyResult<()> {
    let mut ends = Ends { residents, begun, have_freed: false };
    Wait::begin(Patience::endless()).wait_for(py, &mut ends)
}

struct Ends {
    /// Those that have not ended.
    residents: Vec<Arc<dyn Resident>>,
    begun: Instant,
    have_freed: bool,
}

impl Ends {
    fn cleanup(&self) -> Duration {
        self.residents.iter().map(|resident| resident.cleanup()).max().unwrap_or_default()
    }

    fn frees_at(&self) -> Option<Instant> {
        self.begun.checked_add(self.cleanup().checked_add(SLACK / 2)?)
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.begun.checked_add(self.cleanup().checked_mul(2)?.checked_add(SLACK)?)
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
        self.residents.retain(|resident| !resident.has_ended() || resident.is_about_to_end(py));
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
        let Some(first) = self.residents.first() else { return Ok(()) };
        let left = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        process::sleep(py, || {
            if first.has_ended() {
                std::thread::sleep(LAST_STEPS);
            } else {
                let _ = first.ended().wait(Some(left));
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
    if let Err(error) = wait_for_ends(py, residents, begun) {
        let _ = signals::keep(py, error);
        signals::pass_on(py);
    }
}
