//! A runner's loop, as the watcher sees it (stalls.rs).

use super::stalls::{self, Glance, Watched};
use super::state::{Feeder, Job, Runner};
use crate::python::process;
use pyo3::prelude::*;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Has the runner's loop watched, if its bridge has `stall_after`.
pub fn watch(py: Python<'_>, runner: &Arc<Runner>, stall_after: Option<Duration>) -> PyResult<()> {
    let watched: Weak<dyn Watched> = Arc::<Runner>::downgrade(runner);
    stall_after.map_or(Ok(()), |span| stalls::watch(py, watched, span))
}

impl Watched for Runner {
    fn look<'py>(self: Arc<Self>, py: Python<'py>, asked: &AtomicU64) -> Option<Glance<'py>> {
        if self.has_ended() || self.epoch != process::epoch() {
            return None;
        }
        let turns = self.turns();
        let is_own = self.attached.is_none();
        let rests = if is_own { self.is_asleep() && !self.mailbox.has_mail() } else { !self.is_loop_running(py) };
        match self.feeder() {
            Feeder::Selector => {}
            // libuv does not say when it has slept.
            Feeder::Handles => self.wake(),
            Feeder::Callback if rests || asked.swap(turns + 1, SeqCst) == turns + 1 => {}
            Feeder::Callback => {
                let runner = Arc::downgrade(&self);
                // What takes other mail may take this, too, in the same turn.
                let turned = move |_: Python<'_>| {
                    runner.upgrade().iter().for_each(|runner| runner.begin_turn());
                    Ok(())
                };
                let _ = self.post(py, Job::Do(Box::new(turned)));
            }
        }
        Some((turns, rests, self.thread_id(), self.event_loop(py).cloned(), self.name.to_string()))
    }
}
