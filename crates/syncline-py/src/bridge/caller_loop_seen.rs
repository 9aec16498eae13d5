//! A thread's own loop as the watcher, and who lists and ends all loops of the process, see it.

use super::caller_loop::CallerLoop;
use crate::python::once::intern;
use crate::python::process;
use crate::python::residents::{Resident, Shown};
use crate::python::signals;
use crate::runner::stalls::{Glance, Watched};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;
use syncline_core::latch::Latch;

impl Watched for CallerLoop {
    fn look<'py>(self: Arc<Self>, py: Python<'py>, asked: &AtomicU64) -> Option<Glance<'py>> {
        let event_loop = self.event_loop(py).filter(|_| self.epoch == process::epoch())?;
        let turns = self.turns.load(Relaxed);
        let rests = !self.is_busy();
        if !rests && asked.swap(turns + 1, SeqCst) != turns + 1 {
            signals::through(py, || {
                let count = Arc::clone(&self.turns);
                let turned =
                    move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| _ = count.fetch_add(1, Relaxed);
                let turned = PyCFunction::new_closure(py, Some(c"syncline_turned"), None, turned)?;
                // Fails if its thread has just closed it.
                let _ = event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (turned,));
                Ok(())
            });
        }
        Some((turns, rests, self.thread, Some(event_loop), self.name.to_string()))
    }
}

impl Resident for CallerLoop {
    fn description(&self) -> String {
        format!("a thread's own loop of the bridge {:?}", self.name)
    }

    fn scope(&self) -> &'static str {
        "caller"
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        Self::event_loop(self, py)
    }

    fn own_thread(&self) -> Option<u64> {
        None
    }

    fn running_thread(&self) -> Option<u64> {
        self.is_busy().then_some(self.thread)
    }

    fn shown(&self) -> Shown {
        Shown { name: self.name.to_string(), is_asleep: None }
    }

    fn cleanup(&self) -> Duration {
        self.cleanup
    }

    fn ended(&self) -> &Latch {
        &self.ended
    }

    fn is_about_to_end(&self, _py: Python<'_>) -> bool {
        false
    }

    fn begin_end(self: Arc<Self>, py: Python<'_>) {
        if self.is_busy() {
            self.stop_from_outside(py);
        }
    }

    fn free_waiters(&self, _py: Python<'_>) {}
}
