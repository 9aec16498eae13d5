//! The selector of a runner's loop. The loop is asyncio's own; here it sleeps where we can wake it.
//!
//! `asyncio.SelectorEventLoop(selector)` calls `select` once a turn. The standard `EpollSelector` keeps the books about
//! file descriptors; the sleep is ours. Before it results are published, after it mail is turned into tasks. As long as
//! these tasks end at once and leave the loop nothing to do, `select` sleeps again without returning to asyncio.
//!
//! Invariants:
//! 1. Results are published while detached, as a caller woken earlier would only wait for this thread to let go of the
//!    interpreter; and at the next `select` at the latest.
//! 2. The wake-up descriptor is edge-triggered and never read: each write to it wakes the sleeper.
//! 3. `select` returns as soon as the loop has anything else to do: ready handles, new timers, events, a stop.

use crate::python::errors;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::runner::state::Runner;
use crate::task::loops::BridgeLoop;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::spin::current_cpu;

const MOST_EVENTS: usize = 256;

/// The selector of a runner's loop. It has the methods of `selectors.BaseSelector`.
// No `__traverse__`: a loop's `close` closes `inner` and empties `ready`, which then refer to nothing.
#[pyclass(frozen, module = "syncline._core")]
pub struct Selector {
    /// Weak, as the runner has the loop and the loop has its selector; the thread that selects keeps the runner.
    runner: Weak<Runner>,
    /// A `selectors.EpollSelector`, for everything but `select`.
    inner: Py<PyAny>,
    /// The handles that the loop has to run.
    ready: Once<Py<PyAny>>,
    epoll_fd: RawFd,
    wake_fd: RawFd,
}

enum Woken {
    /// File descriptors, and what epoll said of them.
    Events(Vec<(u64, epoll::EventFlags)>),
    Failed(Errno),
}

impl Selector {
    pub fn new(py: Python<'_>, runner: &Arc<Runner>) -> PyResult<Self> {
        let inner = py.import("selectors")?.getattr("EpollSelector")?.call0()?;
        let epoll_fd = inner.call_method0("fileno")?.extract::<RawFd>()?;
        let mut selector =
            Self { runner: Arc::downgrade(runner), inner: inner.unbind(), ready: Once::new(), epoll_fd, wake_fd: -1 };
        selector.wake_fd = runner.watch_wake_fd(|fd| {
            let data = epoll::EventData::new_u64(fd.as_raw_fd().unsigned_abs().into());
            epoll::add(selector.epoll(), fd, data, epoll::EventFlags::IN | epoll::EventFlags::ET)
                .map_err(errors::from_errno)
        })?;
        Ok(selector)
    }

    fn epoll(&self) -> BorrowedFd<'_> {
        // SAFETY: `inner` owns the descriptor and closes it only in `close`, on the thread that selects.
        unsafe { BorrowedFd::borrow_raw(self.epoll_fd) }
    }

    /// Publishes, spins, sleeps. Detached.
    fn sleep(&self, runner: &Runner, timeout: Option<Duration>) -> Woken {
        let published = runner.outbox.flush();
        runner.loop_cpu.store(current_cpu(), Relaxed);
        let idle = timeout.is_none_or(|timeout| !timeout.is_zero());
        let met = idle && runner.spin_for_mail(published);
        // If there is mail, the descriptors are only asked, without sleeping.
        let parked = idle && !met && runner.mailbox.park();
        let span = if parked { timeout } else { Some(Duration::ZERO) };
        let woken = self.wait_for_events(span);
        if parked {
            runner.mailbox.unpark();
        }
        woken
    }

    fn wait_for_events(&self, span: Option<Duration>) -> Woken {
        // A span too long for the kernel is as good as no limit.
        let mut span = span.and_then(|span| Timespec::try_from(span).ok());
        if let Some(exact) = span.filter(|span| span.tv_sec == 0 && span.tv_nsec > 0) {
            // epoll counts whole milliseconds, so that timers of a millisecond would come after up to two. poll is
            // exact, and takes the epoll descriptor itself.
            let mut descriptor = [PollFd::from_borrowed_fd(self.epoll(), PollFlags::IN)];
            match poll(&mut descriptor, Some(&exact)) {
                Ok(_) | Err(Errno::INTR) => span = Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
                Err(errno) => return Woken::Failed(errno),
            }
        }
        let mut room = [const { MaybeUninit::uninit() }; MOST_EVENTS];
        let events = match epoll::wait(self.epoll(), &mut room, span.as_ref()) {
            Ok((events, _)) => events,
            // Python runs its signal handlers when we attach; the loop may turn once for nothing.
            Err(Errno::INTR) => &mut [],
            Err(errno) => return Woken::Failed(errno),
        };
        let woken_by_us = u64::from(self.wake_fd.unsigned_abs());
        // Python's `epoll.register` sets the lower half of the data only; the upper one is whatever was there.
        let fd_of = |event: &epoll::Event| event.data.u64() & u64::from(u32::MAX);
        let events = events.iter().map(|event| (fd_of(event), event.flags));
        Woken::Events(events.filter(|(fd, _)| *fd != woken_by_us).collect())
    }

    /// Whether the loop has handles to run or was told to stop.
    fn has_work(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = event_loop.py();
        let ready = self.ready.get_or_try_init(py, || Ok(event_loop.getattr(intern!(py, "_ready"))?.unbind()))?;
        Ok(ready.bind(py).len()? > 0 || event_loop.getattr(intern!(py, "_stopping"))?.is_truthy()?)
    }

    /// asyncio's form of what epoll reported: pairs of key and mask.
    fn report<'py>(&self, py: Python<'py>, events: &[(u64, epoll::EventFlags)]) -> PyResult<Bound<'py, PyList>> {
        let ready = PyList::empty(py);
        if events.is_empty() {
            return Ok(ready);
        }
        let keys = self.inner.bind(py).call_method0(intern!(py, "get_map"))?;
        for &(fd, flags) in events {
            let Ok(key) = keys.get_item(fd) else {
                // Unregistered in this very turn.
                continue;
            };
            const READ: u32 = 1;
            const WRITE: u32 = 2;
            // As `selectors`: errors and hang-ups count as both.
            let mut mask = 0;
            if !flags.difference(epoll::EventFlags::IN).is_empty() {
                mask |= WRITE;
            }
            if !flags.difference(epoll::EventFlags::OUT).is_empty() {
                mask |= READ;
            }
            let asked = key.getattr(intern!(py, "events"))?.extract::<u32>()?;
            if mask & asked != 0 {
                ready.append((key, mask & asked))?;
            }
        }
        Ok(ready)
    }
}

fn count_timers(event_loop: &Bound<'_, PyAny>) -> PyResult<usize> {
    event_loop.getattr(intern!(event_loop.py(), "_scheduled"))?.len()
}

#[pymethods]
impl Selector {
    /// One turn's sleep; `timeout` in seconds, `None` for as long as it takes.
    #[pyo3(signature = (timeout=None))]
    pub fn select<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let runner = &self.runner.upgrade().ok_or_else(errors::shutting_down)?;
        let span = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        let deadline = span.and_then(|span| Instant::now().checked_add(span));
        let mut left = span;
        let mut timers = None;
        runner.begin_turn();
        loop {
            runner.fall_asleep();
            let (woken, detached_until) = py.detach(|| (self.sleep(runner, left), Instant::now()));
            let attach_took = detached_until.elapsed();
            runner.loop_spin.note_attach(attach_took);
            runner.outbox.hurry(attach_took);
            runner.wake_up();
            let events = match woken {
                Woken::Events(events) => events,
                Woken::Failed(errno) => return Err(errors::from_errno(errno)),
            };
            let was_asked = match runner.event_loop(py).filter(|_| runner.mailbox.has_mail()) {
                Some(event_loop) => {
                    let before = timers.map_or_else(|| count_timers(event_loop), Ok)?;
                    runner.see_to_mail(py)?;
                    timers = Some(before);
                    // By 3. If the mail has made timers or handles, the loop has its turn.
                    before != count_timers(event_loop)? || self.has_work(event_loop)?
                }
                // Woken for a handle or a timer of the loop, or without a reason: the loop looks itself.
                None => true,
            };
            if was_asked || !events.is_empty() || deadline.is_some_and(|at| at <= Instant::now()) {
                if was_asked {
                    // The loop may be busy until the next `select`: results that are there by now don't wait for that.
                    runner.flush_soon(py);
                }
                return self.report(py, &events);
            }
            left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        }
    }

    pub fn register(
        &self,
        py: Python<'_>,
        fileobj: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.inner.call_method1(py, intern!(py, "register"), (fileobj, events, data))
    }

    pub fn unregister(&self, py: Python<'_>, fileobj: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.inner.call_method1(py, intern!(py, "unregister"), (fileobj,))
    }

    pub fn modify(
        &self,
        py: Python<'_>,
        fileobj: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.inner.call_method1(py, intern!(py, "modify"), (fileobj, events, data))
    }

    pub fn get_key(&self, py: Python<'_>, fileobj: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.inner.call_method1(py, intern!(py, "get_key"), (fileobj,))
    }

    pub fn get_map(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inner.call_method0(py, intern!(py, "get_map"))
    }

    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        // Closing the epoll descriptor forgets the wake-up descriptor, which is the runner's to close.
        self.inner.call_method0(py, intern!(py, "close")).map(drop)
    }
}

/// The class of a runner's loop. It is made here rather than in a Python module: an import under way in one thread is
/// left half done in a child that another thread forks, and this would be one import more.
pub fn runner_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: Once<Py<PyAny>> = Once::new();
    let made = CELL.get_or_try_init(py, || {
        let namespace = PyDict::new(py);
        namespace.set_item("__module__", "syncline")?;
        let bases = (py.get_type::<BridgeLoop>(), names::selector_event_loop(py)?);
        PyResult::Ok(py.get_type::<PyType>().call1(("RunnerLoop", bases, namespace))?.unbind())
    });
    Ok(made?.bind(py))
}
