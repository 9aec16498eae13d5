//! Where results of other threads come back to a loop: one box for each loop, one wake-up for each batch.
//!
//! `call_soon_threadsafe` once a result writes to a socket once a result, under the interpreter lock, and the loop then
//! reads it dry. Here a result is laid into the loop's box; who finds the box empty rings, and everything that is there
//! when the loop comes round is seen to in one callback. Where the loop can watch a descriptor, ringing is one write,
//! which needs no interpreter lock.
//!
//! Invariants:
//! 1. `rung` is true from the moment in which somebody is told to ring until the loop empties the box. 2. Only its loop's
//!    thread empties a box. 3. A box closes with its loop; what lies in it then, or comes later, is lost, and told so.
//! 4. A box refers to its loop weakly: the loop owns what it calls, and that owns the box. 5. In a forked child a box of
//!    the parent is not used: its descriptor is the parent's.

use crate::call::HAS_TRIO;
use crate::errors;
use crate::names;
use crate::once::intern;
use crate::process;
use crate::runner::{self, Feeder, Job, Runner};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Instant;
use syncline_core::mailbox::{SendError, Sent};
use syncline_core::spin::{Spin, current_cpu, usable_cores};
use syncline_core::sync::{Mutex, lock};

/// What comes to a loop.
pub trait Arrival: Send + Sync {
    /// On the loop's thread.
    fn arrive(&self, py: Python<'_>);
    /// The loop is gone.
    fn be_lost(&self, py: Python<'_>);
}

pub enum Item {
    Arrival(Arc<dyn Arrival>),
    Do(Box<dyn FnOnce(Python<'_>) + Send>),
}

#[derive(Default)]
struct Mail {
    items: Vec<Item>,
    rung: bool,
    closed: bool,
}

enum Route {
    /// A loop with our selector: through its mailbox.
    Runner(Arc<Runner>),
    #[cfg(target_os = "linux")]
    Descriptor(std::os::fd::OwnedFd),
    /// `call_soon_threadsafe`, or trio's equivalent.
    Callback,
}

/// What runs the loop's coroutines.
enum Host {
    Asyncio,
    /// With those methods of an event loop that the core uses.
    Trio(Py<PyAny>),
}

/// How a loop does, as far as another thread can see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Runs,
    /// Open, and nobody drives it.
    Stands,
    Gone,
}

pub struct Home {
    epoch: u32,
    /// The loop, or trio's token.
    anchor: Py<PyWeakrefReference>,
    host: Host,
    route: Route,
    runner: Option<Weak<Runner>>,
    /// The identifier of the loop's thread.
    pub thread_id: u64,
    mail: Mutex<Mail>,
    /// For results of worker threads that may come at once.
    spin: Spin,
}

/// The duty to ring.
#[must_use]
pub struct Ring(Arc<Home>);

/// What of that is left once the interpreter is not needed any more. A loop that spins comes at once, and would collide
/// with a thread that still holds it.
#[must_use]
pub enum Rung {
    Mail(Arc<Home>, Arc<Runner>, Option<Job>),
    #[cfg(target_os = "linux")]
    Descriptor(Arc<Home>),
}

/// A loop that takes nothing any more, and what it was given.
#[must_use]
pub struct Refused(Arc<Home>, SendError<Job>);

impl Ring {
    /// What of it needs the interpreter; comes first. `None` if nothing is left to do.
    pub fn prepare(self, py: Python<'_>) -> Option<Rung> {
        let home = self.0;
        match &home.route {
            Route::Runner(runner) => {
                let runner = Arc::clone(runner);
                let drain = Drain { home: Arc::clone(&home), stays: false, ran: AtomicBool::new(false) };
                let job = Job::Do(Box::new(move |py| {
                    drain.__call__(py);
                    Ok(())
                }));
                Some(Rung::Mail(home, runner, Some(job)))
            }
            #[cfg(target_os = "linux")]
            Route::Descriptor(_) => Some(Rung::Descriptor(home)),
            Route::Callback => {
                home.schedule(py);
                None
            }
        }
    }

    pub fn ring_now(self, py: Python<'_>) {
        if let Some(refused) = self.prepare(py).and_then(|mut rung| rung.finish()) {
            refused.close(py);
        }
    }
}

impl Rung {
    /// Once; for any thread, attached or not. What comes back is to be closed attached, and this to be dropped so: it may
    /// be the last that refers to the loop.
    pub fn finish(&mut self) -> Option<Refused> {
        match self {
            Self::Mail(home, runner, job) => {
                runner.caller_cpu.store(current_cpu(), Relaxed);
                match runner.mailbox.send(job.take()?) {
                    Ok(Sent::WakeTheLoop) => runner.wake(),
                    Ok(Sent::LoopIsAwake) => {}
                    Err(refused) => return Some(Refused(Arc::clone(home), refused)),
                }
            }
            #[cfg(target_os = "linux")]
            Self::Descriptor(home) => {
                if let Route::Descriptor(fd) = &home.route {
                    // Fails only if the counter is full, and then the loop is awake.
                    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
                }
            }
        }
        None
    }
}

impl Refused {
    pub fn close(self, py: Python<'_>) {
        self.0.close(py);
        drop(self.1);
    }
}

thread_local! {
    /// By 4 weak. The box of the loop that this thread asked for last.
    static HERE: RefCell<Weak<Home>> = const { RefCell::new(Weak::new()) };
}

/// The box of the loop that runs in this thread.
pub fn here(py: Python<'_>, in_trio: bool) -> PyResult<Arc<Home>> {
    let anchor = if in_trio {
        names::trio_token(py)?.call0()?
    } else {
        names::running_loop(py)?.ok_or_else(|| {
            PyRuntimeError::new_err(
                "this has to be awaited where asyncio or trio runs; in sync code call the function directly",
            )
        })?
    };
    let known = HERE.with_borrow(Weak::upgrade);
    if let Some(home) = known.filter(|home| home.is_of(&anchor)) {
        return Ok(home);
    }
    let home = if in_trio { Home::in_trio(&anchor)? } else { Home::in_asyncio(&anchor)? };
    HERE.set(Arc::downgrade(&home));
    Ok(home)
}

impl Home {
    fn new(anchor: &Bound<'_, PyAny>, host: Host, route: Route) -> PyResult<Arc<Self>> {
        Ok(Arc::new(Self {
            epoch: process::epoch(),
            anchor: PyWeakrefReference::new(anchor)?.unbind(),
            host,
            route,
            runner: runner::current().map(|runner| Arc::downgrade(&runner)),
            thread_id: names::get_ident(anchor.py())?.call0()?.extract()?,
            mail: Mutex::default(),
            spin: Spin::new(usable_cores()),
        }))
    }

    fn in_trio(token: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = token.py();
        HAS_TRIO.store(true, Relaxed);
        let guest = names::trio_guest(py)?.call1((token,))?.unbind();
        Self::new(token, Host::Trio(guest), Route::Callback)
    }

    fn in_asyncio(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let ours = runner::current().filter(|runner| {
            runner.feeder() == Feeder::Selector && runner.event_loop(py).is_some_and(|known| known.is(event_loop))
        });
        if let Some(runner) = ours {
            return Self::new(event_loop, Host::Asyncio, Route::Runner(runner));
        }
        #[cfg(target_os = "linux")]
        if let Some(home) = Self::with_descriptor(event_loop)? {
            return Ok(home);
        }
        Self::new(event_loop, Host::Asyncio, Route::Callback)
    }

    /// `None` if the loop can't watch descriptors.
    #[cfg(target_os = "linux")]
    fn with_descriptor(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        use rustix::event::{EventfdFlags, eventfd};
        use std::os::fd::AsRawFd;
        let py = event_loop.py();
        let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else { return Ok(None) };
        let number = fd.as_raw_fd();
        let home = Self::new(event_loop, Host::Asyncio, Route::Descriptor(fd))?;
        let drain = Drain { home: Arc::clone(&home), stays: true, ran: AtomicBool::new(false) };
        // In an empty context: the loop keeps the one that the reader is added in, and with it all that is in there.
        let context = names::context(py)?.call0()?;
        let add_reader = event_loop.getattr(intern!(py, "add_reader"))?;
        match context.call_method1(intern!(py, "run"), (add_reader, number, drain)) {
            Ok(_) => Ok(Some(home)),
            Err(_) => Ok(None),
        }
    }

    fn is_of(&self, anchor: &Bound<'_, PyAny>) -> bool {
        let py = anchor.py();
        self.epoch == process::epoch()
            && self.anchor.bind(py).upgrade().is_some_and(|known| known.is(anchor))
            && !lock(&self.mail).closed
    }

    pub fn runner(&self) -> Option<Arc<Runner>> {
        self.runner.as_ref().and_then(Weak::upgrade)
    }

    /// Whether its loop spins before it sleeps, and lets go of the interpreter when it says.
    pub fn spins(&self) -> bool {
        matches!(self.route, Route::Runner(_))
    }

    /// Waits for a moment, detached, for what another thread is about to bring; for the loop's thread, if its loop does not
    /// spin itself.
    pub fn spin(&self, py: Python<'_>, other_cpu: u32, before: impl FnOnce() + Send, done: impl Fn() -> bool + Send) {
        let detached_until = py.detach(|| {
            before();
            self.spin.attempt(other_cpu, true, done);
            Instant::now()
        });
        self.spin.note_attach(detached_until.elapsed());
    }

    pub fn is_in_trio(&self) -> bool {
        matches!(self.host, Host::Trio(_))
    }

    /// What tasks are made on.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match &self.host {
            Host::Asyncio => self.anchor.bind(py).upgrade(),
            Host::Trio(guest) => Some(guest.bind(py).clone()),
        }
    }

    /// Lays something into the box; attached. Whoever gets a ring has to ring it.
    pub fn put(self: &Arc<Self>, py: Python<'_>, item: Item) -> Option<Ring> {
        let refused = {
            let mut mail = lock(&self.mail);
            if mail.closed {
                Some(item)
            } else {
                mail.items.push(item);
                if std::mem::replace(&mut mail.rung, true) {
                    return None;
                }
                None
            }
        };
        if let Some(item) = refused {
            lose(py, item);
            return None;
        }
        Some(Ring(Arc::clone(self)))
    }

    /// As `put`, and rings.
    pub fn deliver(self: &Arc<Self>, py: Python<'_>, item: Item) {
        if let Some(ring) = self.put(py, item) {
            ring.ring_now(py);
        }
    }

    fn schedule(self: &Arc<Self>, py: Python<'_>) {
        let drain = Drain { home: Arc::clone(self), stays: false, ran: AtomicBool::new(false) };
        let scheduled = self.event_loop(py).map(|event_loop| {
            // If that fails the loop is closed, and so is the box: the drain has been dropped unused.
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (drain,))
        });
        if scheduled.is_none_or(|scheduled| scheduled.is_err()) {
            self.close(py);
        }
    }

    fn empty(&self, py: Python<'_>) {
        // By 5.
        if self.epoch != process::epoch() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Route::Descriptor(fd) = &self.route {
            let mut count = [0; 8];
            // Fails only if nobody has rung.
            let _ = rustix::io::read(fd, &mut count);
        }
        let items = {
            let mut mail = lock(&self.mail);
            mail.rung = false;
            std::mem::take(&mut mail.items)
        };
        for item in items {
            match item {
                Item::Arrival(arrival) => arrival.arrive(py),
                Item::Do(what) => what(py),
            }
        }
    }

    /// By 3.
    fn close(&self, py: Python<'_>) {
        let items = {
            let mut mail = lock(&self.mail);
            mail.closed = true;
            std::mem::take(&mut mail.items)
        };
        if self.epoch != process::epoch() {
            std::mem::forget(items);
            return;
        }
        for item in items {
            lose(py, item);
        }
    }

    /// For other threads that wait for something on this loop.
    pub fn health(&self, py: Python<'_>) -> PyResult<Health> {
        if lock(&self.mail).closed || self.epoch != process::epoch() {
            return Ok(Health::Gone);
        }
        if let Some(runner) = &self.runner {
            return Ok(match runner.upgrade() {
                Some(runner) if !runner.has_ended() => Health::Runs,
                _ => Health::Gone,
            });
        }
        let Some(event_loop) = self.event_loop(py) else { return Ok(Health::Gone) };
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(Health::Gone);
        }
        let runs = event_loop.call_method0(intern!(py, "is_running"))?.is_truthy()?;
        Ok(if runs { Health::Runs } else { Health::Stands })
    }
}

fn lose(py: Python<'_>, item: Item) {
    if let Item::Arrival(arrival) = item {
        arrival.be_lost(py);
    }
}

/// What the loop calls. Dropped before that, the loop is gone.
#[pyclass(frozen, module = "syncline._core")]
pub struct Drain {
    home: Arc<Home>,
    /// A reader's: called again and again, and dropped with the loop.
    stays: bool,
    ran: AtomicBool,
}

#[pymethods]
impl Drain {
    fn __call__(&self, py: Python<'_>) {
        self.ran.store(true, Relaxed);
        let _inside = process::step_inside_unless_left(py);
        self.home.empty(py);
    }

    fn __repr__(&self) -> &'static str {
        "<results of other threads, for this loop>"
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.stays || !self.ran.load(Relaxed) {
            Python::try_attach(|py| errors::keeping_raised(py, || self.home.close(py)));
        }
    }
}
