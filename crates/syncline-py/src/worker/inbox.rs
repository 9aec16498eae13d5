//! Where results of other threads come back to a loop: one inbox for each loop, one wake-up for each batch.
//!
//! With `call_soon_threadsafe` each result would cost a write to a socket, under the interpreter lock, and a read by
//! the loop. Here results are laid into a mailbox. Only a sender that finds it parked tells the loop, which then takes
//! all that is there in one callback. If the loop can watch a descriptor, telling it is one write to that, without the
//! interpreter. A runner's loop has a mailbox of its own, which serves for this too.
//!
//! Invariants:
//! 1. The mailbox is parked as long as no callback is due that will empty it.
//! 2. Only its loop's thread empties an inbox.
//! 3. An inbox closes with its loop. What lies in it then, or comes later, is lost, and is told so (`be_lost`).
//! 4. An inbox refers to its loop weakly, as the loop owns its callbacks, and these own the inbox.
//! 5. A forked child does not use its parent's inboxes: their descriptors are shared with the parent.

use super::notice::{Notice, Recipient};
use crate::call::outcome::HAS_TRIO;
use crate::python::errors;
use crate::python::leaky::Leaky;
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::python::thread_end::Deferred;
use crate::runner::arrival::Arrival;
use crate::runner::attached::thread_of;
use crate::runner::nodes;
use crate::runner::state::{Runner, current_runner};
use pyo3::exceptions::{PyException, PyRecursionError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;
use syncline_core::mailbox::{Mailbox, Sent};
use syncline_core::spin::{Spin, usable_cores};
#[cfg(target_os = "linux")]
use syncline_core::sync::{Mutex, lock, take};
use syncline_core::waits::Node;
use syncline_core::weak_list::WeakList;

enum Route {
    /// A runner's loop that spins: through the runner's own mailbox.
    Runner(Arc<Runner>),
    /// A loop that can watch a descriptor: this one, which goes with the loop.
    #[cfg(target_os = "linux")]
    Descriptor(Mutex<Option<Arc<std::os::fd::OwnedFd>>>),
    /// Any other: `call_soon_threadsafe`, or what trio has for it.
    Callback,
}

/// What runs the loop's coroutines.
enum Host {
    Asyncio,
    /// With a `TrioGuest`, which has those methods of an event loop that the core uses.
    Trio(Py<PyAny>),
}

/// How a loop does, as far as another thread can see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Runs,
    /// It is open, and nobody drives it at the moment.
    Stands,
    Gone,
}

pub struct Inbox {
    epoch: u32,
    /// The loop, or trio's token.
    anchor: Py<PyWeakrefReference>,
    host: Host,
    route: Route,
    runner: Option<Weak<Runner>>,
    /// The identifier of the loop's thread.
    pub thread_id: u64,
    mail: Mailbox<Arc<dyn Arrival>>,
    /// Those that are to be told when the loop is gone, though nothing of theirs lies here.
    told_of_end: WeakList<dyn Arrival>,
    /// anyio's name for the loop.
    anyio_token: OnceLock<Py<PyAny>>,
    /// For meetings: how long the loop's thread waits for a result of a worker that may come at once.
    spin: Spin,
}

thread_local! {
    /// The inbox that this thread asked for last. Weak, as by 4 its loop keeps it.
    static HERE: Leaky<Weak<Inbox>> = const { Leaky::new() };
    /// The inbox of the runner whose loop this thread drives. That loop has no callback that would keep it between two
    /// calls.
    static OF_RUNNER: Leaky<Arc<Inbox>> = const { Leaky::new() };
    static END: Deferred = const { Deferred::new() };
}

fn keep_with_runner(py: Python<'_>, inbox: &Arc<Inbox>) -> PyResult<()> {
    drop(OF_RUNNER.with(|kept| kept.replace(Some(Arc::clone(inbox)))));
    END.with(|end| {
        end.ensure(py, |_| {
            END.with(Deferred::forget);
            drop(OF_RUNNER.with(Leaky::take));
        })
    })
}

/// The inbox of the loop that runs in this thread.
pub fn here(py: Python<'_>, in_trio: bool) -> PyResult<Arc<Inbox>> {
    let anchor = if in_trio {
        names::trio_token(py)?.call0()?
    } else {
        names::running_loop(py)?.ok_or_else(|| {
            PyRuntimeError::new_err(
                "this has to be awaited where asyncio or trio runs; in sync code call the function directly",
            )
        })?
    };
    let known = HERE.with(Leaky::cloned).and_then(|known| known.upgrade());
    if let Some(inbox) = known.filter(|inbox| inbox.is_of(&anchor)) {
        return Ok(inbox);
    }
    let inbox = if in_trio { Inbox::in_trio(&anchor)? } else { Inbox::in_asyncio(&anchor)? };
    // The weak reference may be left behind when the thread ends, and then keeps some memory, which is all.
    drop(HERE.with(|here| here.replace(Some(Arc::downgrade(&inbox)))));
    Ok(inbox)
}

impl Inbox {
    fn new(anchor: &Bound<'_, PyAny>, host: Host, route: Route) -> PyResult<Arc<Self>> {
        let thread_id = names::thread_ident(anchor.py())?;
        Self::of_thread(anchor, host, route, thread_id, current_runner())
    }

    /// The inbox of a loop that runs in another thread, for one who is not sent by us: anyio's worker.
    pub fn of_other_thread(anchor: &Bound<'_, PyAny>, in_trio: bool) -> PyResult<Arc<Self>> {
        // asyncio's loops tell; of others it is not known, and nobody is looked for in that thread then.
        let thread_id = thread_of(anchor).unwrap_or(0);
        let host = if in_trio { Self::trio_host(anchor)? } else { Host::Asyncio };
        Self::of_thread(anchor, host, Route::Callback, thread_id, None)
    }

    fn of_thread(
        anchor: &Bound<'_, PyAny>,
        host: Host,
        route: Route,
        thread_id: u64,
        runner: Option<Arc<Runner>>,
    ) -> PyResult<Arc<Self>> {
        let mail = Mailbox::new();
        // By 1: nothing is due yet.
        mail.park();
        Ok(Arc::new(Self {
            epoch: process::epoch(),
            anchor: PyWeakrefReference::new(anchor)?.unbind(),
            host,
            route,
            runner: runner.map(|runner| Arc::downgrade(&runner)),
            thread_id,
            mail,
            told_of_end: WeakList::default(),
            anyio_token: OnceLock::new(),
            spin: Spin::new(usable_cores()),
        }))
    }

    fn in_trio(token: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        Self::new(token, Self::trio_host(token)?, Route::Callback)
    }

    fn trio_host(token: &Bound<'_, PyAny>) -> PyResult<Host> {
        HAS_TRIO.store(true, Relaxed);
        Ok(Host::Trio(names::trio_guest(token.py())?.call1((token,))?.unbind()))
    }

    fn in_asyncio(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let ours = current_runner().filter(|runner| {
            runner.feeder().spins() && runner.event_loop(py).is_some_and(|known| known.is(event_loop))
        });
        if let Some(runner) = ours {
            let inbox = Self::new(event_loop, Host::Asyncio, Route::Runner(runner))?;
            keep_with_runner(py, &inbox)?;
            return Ok(inbox);
        }
        #[cfg(target_os = "linux")]
        if let Some(inbox) = Self::with_descriptor(event_loop)? {
            return Ok(inbox);
        }
        let inbox = Self::new(event_loop, Host::Asyncio, Route::Callback)?;
        match inbox.schedule(event_loop) {
            Ok(()) => Ok(inbox),
            // Raised now, and not when a result is there.
            Err(cause) => Err(errors::from_cause(py, errors::loop_without_threads(event_loop), cause)),
        }
    }

    /// `None` if the loop can't watch descriptors.
    #[cfg(target_os = "linux")]
    fn with_descriptor(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        use rustix::event::{EventfdFlags, eventfd};
        use std::os::fd::AsRawFd;
        let py = event_loop.py();
        let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else { return Ok(None) };
        let number = fd.as_raw_fd();
        let inbox = Self::new(event_loop, Host::Asyncio, Route::Descriptor(Mutex::new(Some(Arc::new(fd)))))?;
        let drain = Drain { inbox: Arc::clone(&inbox), stays: true, ran: AtomicBool::new(false) };
        // In an empty context: the loop keeps the context in which the reader is added, with all values in it.
        let context = names::context(py)?.call0()?;
        let add_reader = event_loop.getattr(intern!(py, "add_reader"))?;
        match context.call_method1(intern!(py, "run"), (add_reader, number, drain)) {
            Ok(_) => Ok(Some(inbox)),
            Err(error) if !error.is_instance_of::<PyException>(py) || signals::are_handlers(py, &error) => {
                // The loop may know the descriptor already, whose number another one has next.
                signals::through(py, || event_loop.call_method1(intern!(py, "remove_reader"), (number,)));
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }

    fn is_of(&self, anchor: &Bound<'_, PyAny>) -> bool {
        let py = anchor.py();
        self.epoch == process::epoch()
            && self.anchor.bind(py).upgrade().is_some_and(|known| known.is(anchor))
            && !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        match &self.route {
            // While it ends its mailbox is closed, but late.rs still brings what comes.
            Route::Runner(runner) => runner.has_ended(),
            _ => self.mail.is_closed(),
        }
    }

    pub fn runner(&self) -> Option<Arc<Runner>> {
        self.runner.as_ref().and_then(Weak::upgrade)
    }

    /// The node of its loop, in the graph of who waits for whom.
    pub fn node(&self, py: Python<'_>) -> Option<Arc<Node>> {
        match self.runner() {
            Some(runner) => Some(Arc::clone(&runner.node)),
            None => nodes::of_loop(&self.anchor.bind(py).upgrade()?),
        }
    }

    /// Whether its loop spins for mail by itself.
    pub fn spins(&self) -> bool {
        matches!(self.route, Route::Runner(_))
    }

    /// On one core: whether the loop's thread should be detached when it wakes another one.
    pub fn gives_way(&self) -> bool {
        self.spin.gives_way()
    }

    /// The loop's thread waits for a moment, detached, for what another thread is about to bring. For loops that don't
    /// spin by themselves, and on one core.
    pub fn spin(&self, py: Python<'_>, other_cpu: u32, before: impl FnOnce() + Send, done: impl Fn() -> bool + Send) {
        let detached_until = py.detach(|| {
            if let Route::Runner(runner) = &self.route {
                let _ = runner.outbox.flush();
            }
            before();
            self.spin.attempt(other_cpu, true, done);
            Instant::now()
        });
        self.spin.note_attach(detached_until.elapsed());
    }

    /// Whether the calling thread is the one that drives its loop.
    pub fn is_of_this_thread(&self, py: Python<'_>) -> bool {
        names::thread_ident(py).is_ok_and(|ident| ident == self.thread_id)
    }

    /// What anyio's `from_thread` takes for the loop, in a worker thread that works for it.
    pub fn anyio_token<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(event_loop) = self.event_loop(py).filter(|_| !self.is_in_trio()) else { return Ok(None) };
        if self.anyio_token.get().is_none() {
            let _ = self.anyio_token.set(names::anyio_loop_token(py)?.call1((event_loop,))?.unbind());
        }
        Ok(self.anyio_token.get().map(|token| token.bind(py).clone()))
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

    /// Lays something into the inbox, and tells the loop.
    pub fn deliver(self: &Arc<Self>, py: Python<'_>, arrival: Arc<dyn Arrival>) {
        if let Some(notice) = Arc::clone(self).put(py, arrival) {
            notice.send_now(py);
        }
    }

    /// Has the arrival told when the loop is gone (`be_lost`), though it may not lie here then.
    pub fn tell_of_end(&self, arrival: Weak<dyn Arrival>) {
        match &self.route {
            Route::Runner(runner) => runner.told_when_gone.add(arrival),
            _ => self.told_of_end.add(arrival),
        }
    }

    /// Schedules the callback, and sees to what comes of that, unless this thread is at its recursion limit: that is raised.
    fn tell(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        match self.event_loop(py).map(|event_loop| self.schedule(&event_loop)) {
            Some(Ok(())) => {}
            Some(Err(error)) if error.is_instance_of::<PyRecursionError>(py) => return Err(error),
            Some(Err(error)) if !self.mail.is_closed() => self.note_untold(py, &error),
            _ => self.close(py),
        }
        Ok(())
    }

    fn note_untold(&self, py: Python<'_>, error: &PyErr) {
        let message = "the loop could not be told of a result, which waits for the next one";
        signals::keep_or(py, error, |error| log::log(py, "error", message, Some(error)));
        self.mail.wake_failed();
    }

    fn schedule(self: &Arc<Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let drain = Bound::new(py, Drain { inbox: Arc::clone(self), stays: false, ran: AtomicBool::new(false) })?;
        let told = event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (&drain,));
        if told.is_err() {
            // If it runs on, though it was not told, the callback's drop is no sign. Else that may be kept, by a traceback.
            let runs_on = !signals::ask(py, || event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy());
            drain.get().ran.store(runs_on, Relaxed);
            if !runs_on {
                self.close(py);
            }
        }
        told.map(drop)
    }

    /// Not under its lock: a loop that is woken by a write reads it at once, on another core, and would only wait for
    /// the writer.
    #[cfg(target_os = "linux")]
    fn descriptor(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        match &self.route {
            Route::Descriptor(fd) => lock(fd).clone(),
            _ => None,
        }
    }

    fn empty(self: &Arc<Self>, py: Python<'_>) {
        // By 5.
        if self.epoch != process::epoch() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(fd) = self.descriptor() {
            let mut count = [0; 8];
            // Fails only if nobody has written.
            let _ = rustix::io::read(&fd, &mut count);
        }
        let mut mail = VecDeque::new();
        self.mail.drain(&mut mail);
        for arrival in mail.drain(..) {
            arrival.arrive(py);
        }
        self.mail.keep_room(mail);
        // By 1. What has come meanwhile is left to another callback, so that other tasks have their turn first.
        if !self.mail.park() {
            Notice::Wake(Arc::<Self>::clone(self)).send_now(py);
        }
    }

    /// The loop is gone: what lies in the inbox is lost (by 3).
    fn close(&self, py: Python<'_>) {
        let mail = self.mail.close();
        if self.epoch != process::epoch() {
            std::mem::forget(mail);
            return;
        }
        // Who waited may be kept for long, by the traceback of an error, and keeps the inbox.
        #[cfg(target_os = "linux")]
        if let Route::Descriptor(fd) = &self.route {
            drop(take(fd));
        }
        for arrival in mail {
            arrival.be_lost(py);
        }
        for arrival in self.told_of_end.take() {
            arrival.be_lost(py);
        }
    }

    /// How the loop does, for another thread that waits for something on it.
    pub fn health(&self, py: Python<'_>) -> PyResult<Health> {
        if self.epoch != process::epoch() || self.is_closed() {
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

impl Recipient for Inbox {
    fn put(self: Arc<Self>, py: Python<'_>, arrival: Arc<dyn Arrival>) -> Option<Notice> {
        match &self.route {
            Route::Runner(runner) => return Some(Notice::Mail(Arc::clone(runner), Some(arrival))),
            #[cfg(target_os = "linux")]
            Route::Descriptor(_) => return Some(Notice::Lay(self, Some(arrival))),
            Route::Callback => {}
        }
        match self.mail.send(arrival) {
            Ok(Sent::LoopIsAwake) => None,
            Ok(Sent::WakeTheLoop) => Some(Notice::Wake(self)),
            Err(refused) => {
                refused.0.be_lost(py);
                None
            }
        }
    }

    fn lay(&self, arrival: Arc<dyn Arrival>) -> Result<(), Arc<dyn Arrival>> {
        match self.mail.send(arrival) {
            Ok(Sent::LoopIsAwake) => {}
            Ok(Sent::WakeTheLoop) => self.wake(),
            Err(refused) => return Err(refused.0),
        }
        Ok(())
    }

    fn is_scheduled(self: Arc<Self>, py: Python<'_>) -> bool {
        if !matches!(self.route, Route::Callback) {
            return false;
        }
        let Err(error) = self.tell(py) else { return true };
        // Another thread isn't at its limit. If it is, too, there is no third one.
        let inbox = Arc::clone(&self);
        let started = process::in_another_thread(move || {
            let _ = Python::try_attach(|py| inbox.tell(py).unwrap_or_else(|error| inbox.note_untold(py, &error)));
        });
        if !started {
            self.note_untold(py, &error);
        }
        true
    }

    fn wake(&self) {
        #[cfg(target_os = "linux")]
        if let Some(fd) = self.descriptor() {
            // Fails only if the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&fd, &1_u64.to_ne_bytes());
        }
    }
}

/// The callback by which the loop empties the inbox. If it is dropped without having been called, the loop is gone.
// No `__traverse__`: what lies in the inbox is kept by tasks that wait for it.
#[pyclass(frozen, module = "syncline._core")]
pub struct Drain {
    inbox: Arc<Inbox>,
    /// Whether the loop keeps it as a reader's callback: then it is called many times, and dropped with the loop.
    stays: bool,
    ran: AtomicBool,
}

#[pymethods]
impl Drain {
    fn __call__(&self, py: Python<'_>) {
        self.ran.store(true, Relaxed);
        let _inside = process::step_inside_unless_left(py);
        self.inbox.empty(py);
        signals::pass_on(py);
    }

    fn __repr__(&self) -> &'static str {
        "<results of other threads, for this loop>"
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.stays || !self.ran.load(Relaxed) {
            errors::in_destructor(|py| self.inbox.close(py));
        }
    }
}
