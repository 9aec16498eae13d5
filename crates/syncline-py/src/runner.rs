//! A runner: one event loop on one thread of its own.
//!
//! Invariants:
//! 1. The loop is made, driven and closed by its own thread. 2. `ended` opens after the mailbox was closed and every
//!    call was settled or left behind, so that a waiter which sees it open finds its result or will never get one.
//! 3. `stop`, an exception out of the loop and `close` all end in the same shutdown: mail refused, tasks cancelled,
//!    async generators finalized, loop closed, within the cleanup time.

use crate::call::Call;
use crate::errors;
use crate::loops::{self, Stepping};
use crate::names;
use crate::once::{Once, intern};
use crate::outbox::Outbox;
use crate::process;
use crate::signals;
use crate::switch::carrier;
use crate::switch::nest::{self, Driving};
use crate::switch::nestable;
use crate::target::Target;
use crate::tasks::{self, Home};
use crate::threads;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;
use syncline_core::latch::Latch;
use syncline_core::mailbox::{Mailbox, SendError, Sent};
use syncline_core::slot::Slot;
use syncline_core::spin::{Spin, UNKNOWN_CPU, usable_cores};
use syncline_core::sync::{Mutex, lock};
use syncline_core::waits::Node;

/// How often a callback is scheduled anew after an error.
const MOST_TRIES: u32 = 8;

pub enum Job {
    Start(Arc<Call>, Target, Home),
    Cancel(Arc<Call>),
    /// For the loop's thread: anything short.
    Do(Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>),
    Stop,
}

/// How a sender gets the loop's attention.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feeder {
    /// The loop sleeps in our selector: a write to a descriptor wakes it, no interpreter needed.
    Selector,
    /// Any other loop: `call_soon_threadsafe`, once for all mail that is there when it comes round.
    Callback,
}

/// Which library runs the coroutines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Asyncio,
    Trio,
}

/// What a runner is made with.
#[derive(Clone)]
pub struct Plan {
    pub name: String,
    /// Whether it serves one calling thread only.
    pub is_of_thread: bool,
    pub bridge_id: u64,
    pub cleanup: Duration,
    pub loop_factory: Option<Arc<Py<PyAny>>>,
    pub backend: Backend,
    /// Whether its tasks run in greenlets, so that nested calls await in place.
    pub switches: bool,
}

pub struct Runner {
    pub name: Arc<str>,
    pub bridge_id: u64,
    pub epoch: u32,
    pub mailbox: Mailbox<Job>,
    pub outbox: Arc<Outbox>,
    pub node: Arc<Node>,
    pub caller_spin: Spin,
    pub loop_spin: Spin,
    pub caller_cpu: AtomicU32,
    /// How many wait for a result that may come soon.
    pub callers: AtomicU32,
    pub loop_cpu: AtomicU32,
    pub cleanup: Duration,
    feeder: Feeder,
    pub backend: Backend,
    switches: bool,
    is_of_thread: bool,
    /// "file:line" of the call that started it.
    started_at: String,
    /// Closed with the loop: a future that somebody keeps refers to its runner for longer.
    #[cfg(target_os = "linux")]
    wake_fd: Mutex<Option<std::os::fd::OwnedFd>>,
    event_loop: Once<Py<PyAny>>,
    drain: Once<Py<PyAny>>,
    pub thread: Once<Py<PyAny>>,
    thread_id: AtomicU64,
    /// The submitted calls: nobody who waits for one of their futures looks after it.
    pub submitted: Mutex<Vec<Weak<Call>>>,
    turns: AtomicU64,
    /// The turn whose stall was reported last, and one more; 0 for none.
    reported: AtomicU64,
    asleep: AtomicBool,
    pub closing: Arc<AtomicBool>,
    pub ended: Latch,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Runner>>> = const { RefCell::new(None) };
}

/// The runner whose loop this thread drives.
pub fn current() -> Option<Arc<Runner>> {
    let runner = CURRENT.with_borrow(Clone::clone);
    // In a forked child the thread that forked drives nothing of ours any more.
    runner.filter(|runner| runner.epoch == process::epoch())
}

impl Runner {
    /// Starts a runner and waits until its loop runs, or until it is known why it can't.
    pub fn start(py: Python<'_>, plan: Plan) -> PyResult<Arc<Self>> {
        let feeder = if plan.loop_factory.is_none() && plan.backend == Backend::Asyncio && cfg!(target_os = "linux") {
            Feeder::Selector
        } else {
            Feeder::Callback
        };
        let cores = usable_cores();
        let runner = Arc::new(Self {
            name: plan.name.as_str().into(),
            bridge_id: plan.bridge_id,
            epoch: process::epoch(),
            mailbox: Mailbox::new(),
            outbox: Outbox::new(feeder == Feeder::Selector),
            node: Node::new(),
            caller_spin: Spin::new(cores),
            loop_spin: Spin::new(cores),
            caller_cpu: AtomicU32::new(UNKNOWN_CPU),
            callers: AtomicU32::new(0),
            loop_cpu: AtomicU32::new(UNKNOWN_CPU),
            cleanup: plan.cleanup,
            feeder,
            backend: plan.backend,
            switches: plan.switches,
            is_of_thread: plan.is_of_thread,
            started_at: place_of_call(py),
            #[cfg(target_os = "linux")]
            wake_fd: Mutex::new(Some(new_wake_fd()?)),
            event_loop: Once::new(),
            drain: Once::new(),
            thread: Once::new(),
            thread_id: AtomicU64::new(0),
            submitted: Mutex::default(),
            turns: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            closing: Arc::default(),
            ended: Latch::new(),
        });
        let started: Arc<Slot<PyResult<()>>> = Arc::new(Slot::new());
        let thread = spawn(py, &runner, plan.loop_factory, Arc::clone(&started))?;
        py.detach(|| while started.wait(None) != syncline_core::latch::Waited::Open {});
        if let Some(Err(error)) = started.take() {
            return Err(error);
        }
        // Nobody else sets it.
        runner.thread.set(py, thread);
        process::remember(&runner);
        Ok(runner)
    }

    pub fn feeder(&self) -> Feeder {
        self.feeder
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Relaxed)
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_open()
    }

    pub fn takes_calls(&self) -> bool {
        !self.is_closing() && self.epoch == process::epoch()
    }

    pub fn thread_id(&self) -> u64 {
        self.thread_id.load(Relaxed)
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.event_loop.get(py).map(|event_loop| event_loop.bind(py))
    }

    pub fn description(&self) -> String {
        format!("the loop of the runner {:?} (started at {})", self.name, self.started_at)
    }

    pub fn scope(&self) -> &'static str {
        if self.is_of_thread { "thread" } else { "process" }
    }

    /// Shows the descriptor to `watch`, and returns its number.
    #[cfg(target_os = "linux")]
    pub fn watch_wake_fd(&self, watch: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> PyResult<()>) -> PyResult<i32> {
        use std::os::fd::{AsFd, AsRawFd};
        match lock(&self.wake_fd).as_ref() {
            Some(fd) => watch(fd.as_fd()).map(|()| fd.as_raw_fd()),
            None => Err(errors::shutting_down()),
        }
    }

    /// Wakes a loop that sleeps in our selector.
    pub fn wake(&self) {
        #[cfg(target_os = "linux")]
        if let Some(fd) = lock(&self.wake_fd).as_ref() {
            // Fails only if the counter is full, and then the loop is awake.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Sends a job and wakes the loop if need be; attached. Gives the job back if the runner takes no more.
    pub fn post(self: &Arc<Self>, py: Python<'_>, job: Job) -> Result<(), SendError<Job>> {
        match (self.mailbox.send(job)?, self.feeder) {
            (Sent::LoopIsAwake, _) => {}
            (Sent::WakeTheLoop, Feeder::Selector) => self.wake(),
            (Sent::WakeTheLoop, Feeder::Callback) => self.call_drain(py),
        }
        Ok(())
    }

    fn call_drain(self: &Arc<Self>, py: Python<'_>) {
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
        // A signal handler that raises may have kept the callback from being scheduled, and nobody else will do it.
        for _ in 0..MOST_TRIES {
            match scheduled() {
                Ok(()) => return,
                // A loop that is closed is past its shutdown, which has settled every call.
                Err(error) if self.is_closing() && error.is_instance_of::<PyException>(py) => {
                    if !self.is_loop_closed(py) {
                        names::log(py, "error", "the loop could not be told that it is to close", Some(&error));
                    }
                    return;
                }
                Err(error) => {
                    if !signals::keep(py, error) {
                        return;
                    }
                }
            }
        }
    }

    fn is_loop_closed(&self, py: Python<'_>) -> bool {
        let closed = self.event_loop(py).map(|event_loop| event_loop.call_method0(intern!(py, "is_closed")));
        closed.is_none_or(|closed| closed.is_ok_and(|closed| closed.is_truthy().unwrap_or(false)))
    }

    /// A callback on a loop that is not ours.
    fn drain_batch(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.begin_turn();
        self.outbox.deferring.store(true, Relaxed);
        let mut seen_to = self.see_to_mail(py);
        // Parked, for this feeder, means that no drain is scheduled.
        while seen_to.is_ok() && !self.mailbox.park() {
            seen_to = self.see_to_mail(py);
        }
        self.outbox.deferring.store(false, Relaxed);
        self.outbox.flush_soon(py);
        seen_to
    }

    pub fn begin_turn(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    pub fn fall_asleep(&self) {
        self.asleep.store(true, Relaxed);
    }

    pub fn wake_up(&self) {
        self.asleep.store(false, Relaxed);
        self.turns.fetch_add(1, Relaxed);
    }

    /// Turns all mail into tasks; on the loop's thread.
    pub fn see_to_mail(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Some(event_loop) = self.event_loop(py) else { return Ok(()) };
        let mut mail = VecDeque::new();
        self.mailbox.drain(&mut mail);
        let _stepping = Stepping::on(event_loop);
        while let Some(job) = mail.pop_front() {
            match job {
                Job::Start(call, target, home) => {
                    tasks::start(event_loop, &call, target, home, self.backend == Backend::Asyncio)?;
                }
                Job::Cancel(call) => call.cancel_if_asked(py)?,
                Job::Do(what) => what(py)?,
                Job::Stop => event_loop.call_method0(intern!(py, "stop")).map(drop)?,
            }
        }
        Ok(())
    }

    /// How many timers the loop has; `None` where it doesn't say.
    pub fn scheduled(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let Some(event_loop) = self.event_loop(py) else { return Ok(None) };
        event_loop.getattr(intern!(py, "_scheduled"))?.len().map(Some)
    }

    /// Whether the loop has handles to run or was told to stop.
    pub fn has_work(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(event_loop) = self.event_loop(py) else { return Ok(true) };
        Ok(event_loop.getattr(intern!(py, "_ready"))?.len()? > 0
            || event_loop.getattr(intern!(py, "_stopping"))?.is_truthy()?)
    }

    /// Whether the caller is the one that reports the stall of that turn.
    pub fn is_first_to_report(&self, turn: u64) -> bool {
        self.reported.swap(turn + 1, Relaxed) != turn + 1
    }

    /// Logs who blocks the loop.
    pub fn report_stall(&self, py: Python<'_>, stalled: Duration, waiters: u64) {
        let report = || -> PyResult<String> {
            let waiter = names::get_ident(py)?.call0()?;
            let report = py.import("syncline._diagnosis")?.getattr("stall_report")?;
            report.call1((self.thread_id(), waiter, &*self.name, stalled.as_secs_f64(), waiters))?.extract()
        };
        match report() {
            Ok(text) => names::log(py, "warning", &text, None),
            Err(error) => signals::keep_unless_exception(py, error),
        }
    }

    fn make_loop<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        factory: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match factory {
            _ if self.backend == Backend::Trio => {
                loops::make(&names::partial(py)?.call1((names::trio_loop(py)?, self.cleanup.as_secs_f64()))?)
            }
            Some(factory) => loops::make(factory).and_then(|event_loop| nestable::nests(self.switches, event_loop)),
            #[cfg(target_os = "linux")]
            None => {
                let class = loops::runner_loop(py)?;
                let selector = Bound::new(py, crate::selector::Selector::new(py, self)?)?;
                let factory = names::partial(py)?.call1((class, selector))?;
                loops::make(&factory)
            }
            #[cfg(not(target_os = "linux"))]
            None => loops::make(names::caller_loop(py)?),
        }
    }

    /// The thread's main function.
    fn main(self: &Arc<Self>, py: Python<'_>, factory: Option<&Bound<'_, PyAny>>, started: &Slot<PyResult<()>>) {
        let made = self.make_loop(py, factory).and_then(|event_loop| {
            self.thread_id.store(names::get_ident(py)?.call0()?.extract()?, Relaxed);
            Ok(event_loop)
        });
        let event_loop = match made {
            Ok(event_loop) => event_loop,
            Err(error) => {
                self.closing.store(true, Release);
                self.ended.open();
                let _ = started.fill(Err(error));
                started.publish();
                return;
            }
        };
        self.event_loop.set(py, event_loop.clone().unbind());
        CURRENT.set(Some(Arc::clone(self)));
        nest::drive(Driving::Ours { bridge: self.bridge_id, switches: self.switches });
        if self.feeder == Feeder::Callback {
            self.mailbox.park();
        }
        let _ = started.fill(Ok(()));
        started.publish();
        self.drive(py, &event_loop);
        self.closing.store(true, Release);
        if let Err(error) = self.shut_down(py, &event_loop) {
            names::log(py, "error", "the loop could not be closed cleanly", Some(&error));
        }
        carrier::end_all(py);
        self.outbox.deferring.store(false, Relaxed);
        let _ = self.outbox.flush();
        #[cfg(target_os = "linux")]
        drop(lock(&self.wake_fd).take());
        self.ended.open();
        CURRENT.set(None);
    }

    fn drive(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) {
        loop {
            match event_loop.call_method0(intern!(py, "run_forever")) {
                Ok(_) => return,
                // `SystemExit` and the like in a background task: logged, and the loop lives on.
                Err(error) if !error.is_instance_of::<PyException>(py) => {
                    names::log(
                        py,
                        "error",
                        "a background task or callback raised this, and the loop goes on",
                        Some(&error),
                    );
                }
                Err(error) => {
                    names::log(py, "error", "the loop died", Some(&error));
                    return;
                }
            }
            if self.is_closing() {
                return;
            }
        }
    }
}

fn spawn(
    py: Python<'_>,
    runner: &Arc<Runner>,
    factory: Option<Arc<Py<PyAny>>>,
    started: Arc<Slot<PyResult<()>>>,
) -> PyResult<Py<PyAny>> {
    let main = {
        let runner = Arc::clone(runner);
        PyCFunction::new_closure(
            py,
            Some(c"syncline_runner"),
            None,
            move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let py = args.py();
                runner.main(py, factory.as_ref().map(|factory| factory.bind(py)), &started);
            },
        )?
    };
    threads::start(py, &runner.name, main.into_any(), PyTuple::empty(py))
}

#[cfg(target_os = "linux")]
fn new_wake_fd() -> PyResult<std::os::fd::OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(errors::from_errno)
}

/// "file:line" of the Python code that made the present call.
fn place_of_call(py: Python<'_>) -> String {
    let place = || -> PyResult<String> {
        let frame = names::getframe(py)?.call0()?;
        let file = frame.getattr("f_code")?.getattr("co_filename")?;
        Ok(format!("{file}:{}", frame.getattr("f_lineno")?))
    };
    place().unwrap_or_else(|_| "an unknown place".to_owned())
}
