//! How a runner's loop gets its mail, and is told of it: in our selector, by handles of libuv, or by a callback.

use super::moving;
use super::state::{Feeder, Job, Runner};
#[cfg(unix)]
use super::uv::Handles;
use crate::call::state::Call;
use crate::python::errors;
use crate::python::log;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::Backend;
use pyo3::exceptions::{PyException, PyRecursionError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::mailbox::{SendError, Sent};
#[cfg(unix)]
use syncline_core::sync::{lock, replace, take};

impl Runner {
    /// For the loop's thread, before anybody else knows of the loop.
    #[cfg(unix)]
    pub fn feed_by(&self, handles: Handles) {
        let _ = replace(&self.handles, Some(handles));
        let _ = self.known_feeder.set(Feeder::Handles);
        self.outbox.start_deferring();
    }

    /// Takes the handles: nobody wakes the loop by them any more.
    #[cfg(unix)]
    pub fn take_handles(&self) -> Option<Handles> {
        take(&self.handles)
    }

    /// Spins for mail, for a loop that is about to sleep; detached. `published` is how many callers were just told.
    pub fn spin_for_mail(&self, published: usize) -> bool {
        let caller_cpu = self.caller_cpu.load(Relaxed);
        let met = self.loop_spin.attempt(caller_cpu, true, || self.mailbox.has_mail());
        if met && published > 1 {
            // The callers whose results were published together will call again, one after the other. If this thread
            // took each call as it comes, it would hold the interpreter whenever the next caller needs it. So it waits
            // for all of them.
            self.loop_spin.linger(caller_cpu, || self.mailbox.count() >= published);
        }
        met
    }

    /// Calls `watch` with the wake-up descriptor, and returns its number.
    #[cfg(target_os = "linux")]
    pub fn watch_wake_fd(&self, watch: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> PyResult<()>) -> PyResult<i32> {
        use std::os::fd::{AsFd, AsRawFd};
        match lock(&self.wake_fd).as_ref() {
            Some(fd) => watch(fd.as_fd()).map(|()| fd.as_raw_fd()),
            None => Err(errors::shutting_down()),
        }
    }

    /// Wakes a loop that can be woken without the interpreter.
    pub fn wake(&self) {
        #[cfg(unix)]
        if self.feeder() == Feeder::Handles {
            if let Some(handles) = lock(&self.handles).as_ref() {
                handles.wake();
            }
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(fd) = lock(&self.wake_fd).as_ref() {
            // Fails only if the counter is full, and then the loop is awake.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Sends a job to a loop that can be woken without the interpreter, and wakes it if need be; attached or not.
    pub fn send(&self, job: Job) -> Result<Sent, SendError<Job>> {
        let sent = self.mailbox.send(job)?;
        if sent == Sent::WakeTheLoop {
            self.wake();
        }
        Ok(sent)
    }

    /// Sends a job and wakes the loop if need be; attached. Gives the job back if the runner takes no more.
    pub fn post(self: &Arc<Self>, py: Python<'_>, job: Job) -> Result<(), SendError<Job>> {
        match (self.mailbox.send(job)?, self.feeder()) {
            // Other threads are in the middle of scheduling the drain. They may be held up by a signal handler, or a
            // finalizer, that waits for this very job.
            (Sent::LoopIsAwake, Feeder::Callback) if self.wakers.load(Relaxed) > 0 => self.call_drain(py),
            (Sent::LoopIsAwake, _) => {}
            (Sent::WakeTheLoop, Feeder::Selector | Feeder::Handles) => self.wake(),
            (Sent::WakeTheLoop, Feeder::Callback) => self.call_drain(py),
        }
        Ok(())
    }

    fn call_drain(self: &Arc<Self>, py: Python<'_>) {
        if self.schedule_drain(py) {
            return;
        }
        // This thread is at its recursion limit. Another one isn't.
        let runner = Arc::clone(self);
        let started = process::in_another_thread(move || {
            if Python::try_attach(|py| runner.schedule_drain(py)) != Some(true) {
                runner.mailbox.wake_failed();
            }
        });
        if !started {
            self.mailbox.wake_failed();
        }
    }

    /// Has the loop call `drain`. False if this thread can't. If the loop refuses that, the calls that it was to be told of
    /// end with the error.
    fn schedule_drain(self: &Arc<Self>, py: Python<'_>) -> bool {
        // A daemon thread may come here though its call was refused, as it drops what it has: the exit waits for it.
        let _inside = process::step_inside_unless_left(py);
        self.wakers.fetch_add(1, Relaxed);
        let scheduled = || -> PyResult<()> {
            let Some(event_loop) = self.event_loop(py) else { return Ok(()) };
            let drain = self.drain.get_or_try_init(py, || {
                let runner = Arc::downgrade(self);
                let callback = PyCFunction::new_closure(
                    py,
                    Some(c"syncline_drain"),
                    None,
                    move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                        runner.upgrade().map_or(Ok(()), |runner| runner.drain_batch(args.py()))
                    },
                )?;
                PyResult::Ok(callback.into_any().unbind())
            })?;
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (drain,)).map(drop)
        };
        // Tried again if a signal handler raised in the middle: the mailbox told this sender alone to wake the loop.
        let told = signals::through(py, || match scheduled() {
            Err(error) if error.is_instance_of::<PyRecursionError>(py) => Ok(false),
            Err(error)
                if self.attached.is_some() && error.is_instance_of::<PyException>(py) && self.is_loop_closed(py) =>
            {
                self.lose(py);
                Ok(true)
            }
            // Nothing is lost if the loop is closed, or a trio run has died: its end settles every call.
            Err(error) if error.is_instance_of::<PyException>(py) && (self.is_closing() || self.is_loop_closed(py)) => {
                if !self.is_loop_closed(py) {
                    log::log(py, "error", "the loop could not be told that it is to close", Some(&error));
                }
                Ok(true)
            }
            Err(error) if error.is_instance_of::<PyException>(py) && !signals::are_handlers(py, &error) => {
                // Before calls are taken out: one that comes later is told of again.
                self.mailbox.wake_failed();
                self.refuse_unheard(py, &error);
                Ok(true)
            }
            scheduled => scheduled.map(|()| true),
        });
        self.wakers.fetch_sub(1, Relaxed);
        told.unwrap_or_else(|| {
            // The error was reported. The mail waits for the next sender.
            self.mailbox.wake_failed();
            true
        })
    }

    /// The loop could not be told of its mail. The next sender may do better, but calls don't wait for one.
    #[cold]
    fn refuse_unheard(&self, py: Python<'_>, error: &PyErr) {
        let unheard = self.mailbox.take_back(|job| matches!(job, Job::Start(..)));
        if unheard.is_empty() {
            log::log(py, "error", "the loop could not be told of what another thread has for it", Some(error));
        }
        for job in unheard {
            let Job::Start(call, target, _) = job else { continue };
            target.discard(py);
            let refused = errors::unheard(py, &self.name, self.event_loop(py));
            call.lose(py, errors::from_cause(py, refused, error.clone_ref(py)));
            call.slot.publish();
        }
        self.flush_soon(py);
    }

    /// What `call_drain` has scheduled: takes all mail, on a loop without our selector.
    fn drain_batch(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.begin_turn();
        self.outbox.start_deferring();
        let mut seen_to = self.see_to_mail(py);
        // With this feeder a parked mailbox is one for which no drain is scheduled: the next sender schedules one.
        while seen_to.is_ok() && !self.mailbox.park() {
            seen_to = self.see_to_mail(py);
        }
        self.outbox.stop_deferring();
        self.flush_soon(py);
        signals::pass_on(py);
        seen_to
    }

    /// Has the loop cancel the call.
    pub fn ask_to_cancel(self: &Arc<Self>, py: Python<'_>, call: &Arc<Call>) {
        call.begin_cancelling();
        // A runner that takes no more mail is ending, and cancels all its tasks.
        let _ = self.post(py, Job::Cancel(Arc::clone(call)));
        if let Some(moved) = moving::moved_to(call) {
            let _ = moved.post(py, Job::Cancel(Arc::clone(call)));
        }
    }

    /// Whether the call had ended by itself before that reached it. In trio one that did not end as cancelled had no
    /// checkpoint any more.
    pub fn was_asked_in_vain(&self, call: &Call) -> bool {
        call.was_asked_in_vain() || self.backend == Backend::Trio
    }

    /// Publishes the results that are there. Detaches for that, so nothing happens where there are none.
    pub fn flush_soon(&self, py: Python<'_>) {
        if !self.outbox.is_empty() {
            py.detach(|| _ = self.outbox.flush());
        }
    }
}
