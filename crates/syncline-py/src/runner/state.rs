//! A runner: one event loop on one thread of its own, as other threads know it.
//!
//! Invariants:
//! 1. The loop is made, driven and closed by its own thread.
//! 2. `ended` opens after the mailbox was closed and each call was settled or given up. So a waiting thread that sees
//!    it open finds its result, or will never get one.
//! 3. Whether the loop is stopped, raises, or is closed, its thread ends it in the same way: it refuses mail, cancels
//!    tasks, finalizes async generators, and closes the loop (end.rs).

use super::arrival::Arrival;
use super::key::RunnerKey;
use super::lookout::Lookout;
use super::stalls;
#[cfg(unix)]
use super::uv::Handles;
use crate::call::state::{Call, ClosingLoop};
#[cfg(unix)]
use crate::call::taker::Published;
use crate::call::taker::{Outbox, Taker};
use crate::coroutine::target::Target;
#[cfg(target_os = "linux")]
use crate::python::errors;
use crate::python::leaky::Leaky;
use crate::python::log;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::Backend;
use crate::switch::nest;
use crate::task::loops::Stepping;
use crate::task::session::Session;
use crate::task::spare::SpareTask;
use crate::task::start::{RunIn, start_call, start_call_with_step};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use syncline_core::latch::Latch;
use syncline_core::mailbox::Mailbox;
use syncline_core::spin::{Spin, UNKNOWN_CPU, usable_cores};
use syncline_core::stats::Stats;
use syncline_core::sync::Mutex;
use syncline_core::waits::Node;
use syncline_core::weak_list::WeakList;

pub enum Job {
    Start(Arc<Call>, Target, RunIn),
    Cancel(Arc<Call>),
    Arrival(Arc<dyn Arrival>),
    /// To be called on the loop's thread; takes no time.
    Do(Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>),
    Stop,
}

/// How a sender gets the loop's attention.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feeder {
    /// A loop that sleeps in our selector: a write to a descriptor wakes it, which needs no interpreter.
    Selector,
    /// A loop of uvloop's: by handles of libuv, of which one wakes it without the interpreter (uv_feeder.rs).
    Handles,
    /// Any other loop: `call_soon_threadsafe`, once for all mail that is there when the loop calls back.
    Callback,
}

impl Feeder {
    /// Whether the loop spins for mail, is woken without the interpreter, and publishes results before it sleeps.
    pub fn spins(self) -> bool {
        self != Self::Callback
    }
}

/// What a runner is made with.
pub struct Plan {
    pub name: String,
    /// What it is for.
    pub key: RunnerKey,
    pub bridge_id: u64,
    pub cleanup: Duration,
    pub loop_factory: Option<Py<PyAny>>,
    pub backend: Backend,
    /// Whether its tasks run in greenlets, so that nested calls await in place.
    pub switches: bool,
    /// Whether the interpreter's tools see its tasks.
    pub is_visible: bool,
    /// After what time without a turn the loop counts as blocked, if it is watched.
    pub stall_after: Option<Duration>,
}

/// What a runner has besides, whose loop is somebody else's (attached.rs).
pub struct Attached {
    /// What its loop is known by: the loop itself, or trio's token.
    pub anchor: Py<PyAny>,
    /// What has begun there, to be ended when the runner is detached.
    pub calls: WeakList<Call>,
    /// Whether _standing.py looks at the loop.
    pub is_watched: AtomicBool,
    pub sessions: WeakList<Session>,
    /// Whether it was ever seen to run.
    pub has_run: AtomicBool,
    /// Since when a waiting thread has seen that nobody runs the loop.
    pub stands_since: Mutex<Option<Instant>>,
    /// Sees that whoever runs the loop is about to end it (_onto.py). There once a session was.
    pub guard: Once<Py<PyAny>>,
}

pub struct Runner {
    pub name: Arc<str>,
    pub bridge_id: u64,
    pub epoch: u32,
    pub mailbox: Mailbox<Job>,
    pub outbox: Arc<Outbox>,
    pub node: Arc<Node>,
    pub caller_spin: Spin,
    /// Whether the last wait that could be a long one was.
    pub waits_are_long: AtomicBool,
    pub loop_spin: Spin,
    pub caller_cpu: AtomicU32,
    /// How many callers are in their first sleep: one that is alone there may spin longer.
    pub callers: AtomicU32,
    pub loop_cpu: AtomicU32,
    pub cleanup: Duration,
    /// Known when the loop is there.
    pub(super) known_feeder: OnceLock<Feeder>,
    #[cfg(unix)]
    pub(super) handles: Mutex<Option<Handles>>,
    /// Results that were published where nothing of Python's may be freed (uv_feeder.rs).
    #[cfg(unix)]
    pub(super) published: Mutex<Vec<Published>>,
    pub backend: Backend,
    pub switches: bool,
    pub key: RunnerKey,
    pub attached: Option<Attached>,
    /// "file:line" of the call that started it.
    pub started_at: String,
    /// What wakes the loop. Closed when the thread ends and not when the runner is dropped: a future of `submit` may
    /// keep that for long.
    #[cfg(target_os = "linux")]
    pub wake_fd: Mutex<Option<std::os::fd::OwnedFd>>,
    pub event_loop: Once<Py<PyAny>>,
    /// For a loop in our selector.
    pub spare: Once<Arc<SpareTask>>,
    /// The callback that empties the mailbox, for a loop that is fed by callbacks.
    pub(super) drain: Once<Py<PyAny>>,
    /// How many threads are in the middle of scheduling it.
    pub(super) wakers: AtomicU32,
    pub thread: Once<Py<PyAny>>,
    pub thread_id: AtomicU64,
    /// The calls of `submit` and `run_async`: whoever waits for them has to be told if the loop ends (end.rs, by 1).
    pub told_of_end: WeakList<Call>,
    /// Those that are to be told once its loop is closed.
    pub told_when_gone: WeakList<dyn Arrival>,
    /// The threads that have waited for its loop for a while.
    pub lookout: Arc<Lookout>,
    turns: AtomicU64,
    asleep: AtomicBool,
    /// Whether its thread has begun to run.
    begun: AtomicBool,
    pub closing: Arc<ClosingLoop>,
    pub ended: Latch,
    /// Whether the interpreter's tools see its tasks.
    pub is_visible: bool,
    pub is_watched: bool,
    /// Whether what begins there is noted: its loop is somebody else's, or watched.
    pub(super) notes_jobs: bool,
}

thread_local! {
    static DRIVEN: Leaky<Arc<Runner>> = const { Leaky::new() };
}

/// The runner whose loop this thread drives.
pub fn current_runner() -> Option<Arc<Runner>> {
    let runner = DRIVEN.with(Leaky::cloned);
    // After a fork in this thread, the child has the thread-local of the parent, and drives no loop of ours.
    runner.filter(|runner| runner.epoch == process::epoch())
}

/// Says which runner's loop this thread drives from now on.
pub fn drive(runner: Option<&Arc<Runner>>) {
    drop(DRIVEN.with(|driven| driven.replace(runner.map(Arc::clone))));
}

impl Runner {
    /// A runner whose thread is not started yet. `node` stands for that thread in the graph of who waits for whom.
    pub fn new(py: Python<'_>, plan: &Plan, node: &Arc<Node>) -> PyResult<Arc<Self>> {
        let feeder = match plan.backend {
            Backend::Asyncio if plan.loop_factory.is_some() => None,
            Backend::Asyncio if cfg!(target_os = "linux") => Some(Feeder::Selector),
            _ => Some(Feeder::Callback),
        };
        Self::make(py, plan, node, feeder, None)
    }

    pub fn make(
        py: Python<'_>,
        plan: &Plan,
        node: &Arc<Node>,
        feeder: Option<Feeder>,
        attached: Option<Attached>,
    ) -> PyResult<Arc<Self>> {
        let cores = usable_cores();
        Ok(Arc::new(Self {
            name: plan.name.as_str().into(),
            bridge_id: plan.bridge_id,
            epoch: process::epoch(),
            mailbox: Mailbox::new(),
            outbox: Arc::new(Outbox::new(feeder == Some(Feeder::Selector))),
            node: Arc::clone(node),
            caller_spin: Spin::new(cores),
            waits_are_long: AtomicBool::new(false),
            loop_spin: Spin::new(cores),
            caller_cpu: AtomicU32::new(UNKNOWN_CPU),
            callers: AtomicU32::new(0),
            loop_cpu: AtomicU32::new(UNKNOWN_CPU),
            cleanup: plan.cleanup,
            known_feeder: feeder.map_or_else(OnceLock::new, OnceLock::from),
            #[cfg(unix)]
            handles: Mutex::default(),
            #[cfg(unix)]
            published: Mutex::default(),
            backend: plan.backend,
            switches: plan.switches,
            key: plan.key.clone(),
            notes_jobs: attached.is_some() || plan.stall_after.is_some(),
            attached,
            started_at: place_of_call(py),
            #[cfg(target_os = "linux")]
            wake_fd: Mutex::new((feeder == Some(Feeder::Selector)).then(new_wake_fd).transpose()?),
            event_loop: Once::new(),
            spare: Once::new(),
            drain: Once::new(),
            wakers: AtomicU32::new(0),
            thread: Once::new(),
            thread_id: AtomicU64::new(0),
            told_of_end: WeakList::default(),
            told_when_gone: WeakList::default(),
            lookout: Lookout::new(),
            turns: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            closing: Arc::default(),
            ended: Latch::new(),
            is_visible: plan.is_visible,
            is_watched: plan.stall_after.is_some(),
        }))
    }

    /// A call that is to run here, not sent yet.
    pub fn new_call(&self, taker: Taker, stats: &Arc<Stats>) -> Arc<Call> {
        Call::new(taker, &self.name, &self.closing, stats)
    }

    pub fn feeder(&self) -> Feeder {
        self.known_feeder.get().copied().unwrap_or(Feeder::Callback)
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Relaxed)
    }

    pub fn note_begun(&self) {
        self.begun.store(true, SeqCst);
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(SeqCst)
    }

    pub fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    /// Notes that it takes no more calls; attached.
    pub fn note_closing(&self) {
        self.closing.begin();
        self.lookout.rouse_all();
    }

    /// Notes that it has ended; attached.
    pub fn note_ended(&self) {
        self.ended.open();
        self.lookout.rouse_all();
        if self.is_watched {
            Python::try_attach(stalls::leave);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_open()
    }

    pub fn takes_calls(&self) -> bool {
        !self.is_closing() && !self.has_ended() && self.epoch == process::epoch()
    }

    pub fn thread_id(&self) -> u64 {
        self.thread_id.load(Relaxed)
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.event_loop.get(py).map(|event_loop| event_loop.bind(py))
    }

    /// The scope that it serves, in the word that users give to `Bridge`.
    pub fn scope(&self) -> &'static str {
        if matches!(self.key, RunnerKey::Thread(_)) { "thread" } else { "process" }
    }

    pub fn is_loop_closed(&self, py: Python<'_>) -> bool {
        self.event_loop(py).is_none_or(|event_loop| says(event_loop, intern!(py, "is_closed")))
    }

    /// Whether somebody runs the loop.
    pub fn is_loop_running(&self, py: Python<'_>) -> bool {
        self.event_loop(py).is_some_and(|event_loop| says(event_loop, intern!(py, "is_running")))
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
        let _stepping = Stepping::on(event_loop);
        let _stranding = self.attached.is_some().then(|| nest::Stranding::begin(self.switches));
        let mut next = self.mailbox.take_first();
        while let Some((job, has_more)) = next {
            // What one job raises must not keep the others from being seen to.
            if let Err(error) = self.see_to(py, event_loop, job) {
                log::log(py, "error", "what another thread sent to the loop could not be seen to", Some(&error));
            }
            next = if has_more { self.mailbox.take_next() } else { None };
        }
        Ok(())
    }

    fn see_to(self: &Arc<Self>, py: Python<'_>, event_loop: &Bound<'_, PyAny>, job: Job) -> PyResult<()> {
        self.note_job(py, &job)?;
        match job {
            Job::Start(call, target, run_in) => {
                let session = self.new_session_of_others(&run_in);
                match self.spare.get(py).filter(|_| names::has_eager_tasks(py)) {
                    Some(spare) => start_call_with_step(event_loop, &call, target, run_in, spare),
                    None => start_call(event_loop, &call, target, run_in, self.backend == Backend::Asyncio),
                }
                session.map_or(Ok(()), |session| self.guard(py, event_loop, &session))
            }
            Job::Cancel(call) => call.cancel_if_asked(py),
            Job::Arrival(arrival) => {
                arrival.arrive(py);
                Ok(())
            }
            Job::Do(what) => what(py),
            Job::Stop if self.attached.is_some() => self.detach(py),
            Job::Stop => event_loop.call_method0(intern!(py, "stop")).map(drop),
        }
    }
}

#[cfg(target_os = "linux")]
fn new_wake_fd() -> PyResult<std::os::fd::OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(errors::from_errno)
}

/// What a method of the loop's says. A signal handler may raise in the middle of it. It may be Python code, which the exit has
/// to wait for: before Python 3.14 the interpreter kills a thread that is in there by unwinding it.
fn says(event_loop: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> bool {
    let _inside = process::step_inside();
    signals::through(event_loop.py(), || event_loop.call_method0(method)?.is_truthy()).unwrap_or(false)
}

/// "file:line" of the Python code that made the present call.
fn place_of_call(py: Python<'_>) -> String {
    let place = || -> PyResult<String> {
        let frame = names::getframe(py)?.call0()?;
        let file: String = frame.getattr("f_code")?.getattr("co_filename")?.extract()?;
        Ok(format!("{file}:{}", frame.getattr("f_lineno")?.extract::<u32>()?))
    };
    place().unwrap_or_else(|_| "an unknown place".to_owned())
}
