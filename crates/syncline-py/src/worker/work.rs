//! One call of a sync function in a worker thread, as its task, its limiter and its worker see it.
//!
//! Invariants:
//! 1. What is to run is taken once: by the worker that runs it, or by a task that no longer waits. 2. The token is given
//!    back when the function has ended, not when its task stops waiting: the limit is one of threads. 3. A result has one
//!    taker; an error that nobody takes is logged. 4. No Python object is dropped while detached.

use crate::call::state::{Call, Outcome, is_cancelled};
use crate::call::wait;
use crate::python::context::Carried;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::worker::awaiting::{Operation, Started, Waker};
use crate::worker::inbox::{Arrival, Inbox, Item, Refused, Ring, Rung};
use crate::worker::limits::{Limits, Waiter};
use crate::worker::workers;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::meeting::Meeting;
use syncline_core::sync::{Mutex, lock};

/// What a worker calls: `run(*args, **kwargs)`.
pub struct Payload {
    pub run: Py<PyAny>,
    pub args: Py<PyTuple>,
    pub kwargs: Py<PyDict>,
}

/// What becomes of a call that a worker waits for when the await that sent the worker is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    End,
    GoOn,
}

type Function = (Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>);

pub struct Work {
    me: Weak<Work>,
    /// Among all calls.
    pub number: u64,
    /// As it was asked for, until it is awaited.
    function: Mutex<Option<Function>>,
    payload: Mutex<Option<Payload>>,
    carried: Mutex<Option<Carried>>,
    outcome: Mutex<Option<Outcome>>,
    /// Nobody waits for the result any more.
    given_up: AtomicBool,
    has_ended: AtomicBool,
    waker: Waker,
    /// Where the loop's thread may wait for it.
    meeting: Arc<Meeting>,
    inbox: OnceLock<Arc<Inbox>>,
    pub limits: Arc<Limits>,
    /// The calls that its function waits for, one inside the other, and which of them end with the task's interest.
    waits_for: Mutex<Vec<(Arc<Call>, OnCancel)>>,
    /// What that call's own task, or one of a loop that its function runs itself, awaits in turn, if it is another worker.
    awaits: Mutex<Weak<Work>>,
    /// The work whose function asked for this one.
    parent: OnceLock<Weak<Work>>,
    /// Whether it was asked for, directly or not, by what a worker called; known once it has to queue.
    pub comes_from_worker: AtomicBool,
    /// The task that waits for it, by address; known once it has to queue.
    pub task: AtomicUsize,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Work {
    pub fn new(
        limits: &Arc<Limits>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Arc<Self> {
        let kwargs = kwargs.map(|kwargs| kwargs.clone().unbind());
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            number: NEXT.fetch_add(1, Relaxed),
            function: Mutex::new(Some((function.clone().unbind(), args.clone().unbind(), kwargs))),
            payload: Mutex::new(None),
            carried: Mutex::new(None),
            outcome: Mutex::new(None),
            given_up: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            waker: Waker::default(),
            meeting: Arc::default(),
            inbox: OnceLock::new(),
            limits: Arc::clone(limits),
            waits_for: Mutex::default(),
            awaits: Mutex::new(Weak::new()),
            parent: OnceLock::new(),
            comes_from_worker: AtomicBool::new(false),
            task: AtomicUsize::new(0),
        })
    }

    fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.get()
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up.load(SeqCst)
    }

    fn prepare(&self, py: Python<'_>) -> PyResult<()> {
        let Some((function, args, kwargs)) = lock(&self.function).take() else { return Ok(()) };
        // Inherited by all that the function calls, and by the tasks that this starts.
        let carried = Carried::fresh_with(py, names::origin(py)?, PyBool::new(py, true).as_any())?;
        let run = carried.context(py).getattr(py, intern!(py, "run"))?;
        let args = args.bind(py);
        let all = std::iter::once(function.into_bound(py)).chain(args.iter()).collect::<Vec<_>>();
        let args = PyTuple::new(py, all)?.unbind();
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py).unbind());
        *lock(&self.payload) = Some(Payload { run, args, kwargs });
        *lock(&self.carried) = Some(carried);
        Ok(())
    }

    /// By 1.
    pub fn take_payload(&self) -> Option<Payload> {
        lock(&self.payload).take()
    }

    /// The function that runs, or is to run; for show.
    pub fn shown(&self, py: Python<'_>) -> Py<PyAny> {
        let payload = lock(&self.payload);
        let function = payload.as_ref().and_then(|payload| payload.args.bind(py).get_item(0).ok());
        function.map_or_else(|| intern!(py, "a worker thread").clone().into_any().unbind(), Bound::unbind)
    }

    /// The function has ended, or will never run. Returns those who have its token now, and how to tell the task.
    pub fn finish(&self, py: Python<'_>, outcome: Option<Outcome>) -> (Vec<Waiter>, Option<News>) {
        let replaced = std::mem::replace(&mut *lock(&self.outcome), outcome);
        drop(replaced);
        self.has_ended.store(true, SeqCst);
        let next = self.limits.give_back(py, self.number);
        if self.is_given_up() {
            self.report(py);
            return (next, None);
        }
        if self.meeting.is_expected() {
            return (next, Some(News::Meeting(Arc::clone(&self.meeting), Weak::clone(&self.me))));
        }
        (next, self.send_word(py).map(News::Ring))
    }

    fn send_word(&self, py: Python<'_>) -> Option<Ring> {
        let (inbox, me) = self.inbox.get().zip(self.me())?;
        inbox.put(py, Item::Arrival(me))
    }

    /// By 3.
    fn report(&self, py: Python<'_>) {
        let late = lock(&self.outcome).take();
        // At exit `SystemExit` is what ends a daemon thread.
        let is_usual = |error: &PyErr| {
            is_cancelled(py, error) || process::is_exiting() && error.is_instance_of::<PySystemExit>(py)
        };
        if let Some(Outcome::Raised(error)) = late
            && !is_usual(&error)
        {
            names::log(py, "error", "a call in a worker thread that nobody waits for any more raised", Some(&error));
        }
    }

    /// The function begins to wait. False if the task has gone away.
    pub fn begin_waiting(&self, call: &Arc<Call>, on_cancel: OnCancel) -> bool {
        let _ = call.waiting_work.set(Weak::clone(&self.me));
        lock(&self.waits_for).push((Arc::clone(call), on_cancel));
        !self.is_given_up()
    }

    pub fn end_waiting(&self) {
        let ended = lock(&self.waits_for).pop();
        drop(ended);
    }

    pub fn is_waiting(&self) -> bool {
        !lock(&self.waits_for).is_empty()
    }

    /// Whether it can never end: it waits, through one task after the other, for a token of a limiter whose tokens are
    /// all held by such.
    pub fn is_stuck(&self, seen: &mut Vec<u64>) -> bool {
        if seen.contains(&self.number) {
            return true;
        }
        if self.has_ended.load(SeqCst) {
            return false;
        }
        seen.push(self.number);
        if self.limits.is_queued(self.number) {
            return self.limits.is_stuck(seen);
        }
        let inner = lock(&self.awaits).upgrade();
        inner.is_some_and(|inner| inner.is_stuck(seen))
    }

    /// Whether anybody who holds a token can be waiting for this: a look that costs nothing, since most calls that queue
    /// only wait for others.
    fn may_close_a_circle(&self) -> bool {
        self.parent.get().is_some() || self.limits.is_borrowed_by(self.task.load(Relaxed))
    }

    /// For a worker that waits, now and then: see `Limits::relieve`. `seen` is what it saw the last time.
    pub fn look_after_limits(&self, py: Python<'_>, seen: &mut Option<u64>) {
        let counts = self.limits.counts();
        if *seen == Some(counts.moves) && counts.waiting > 0 {
            self.limits.relieve(py);
        }
        *seen = Some(counts.moves);
    }

    /// Notes on whose behalf this is, for `is_stuck`.
    fn join(&self) {
        let waiting = wait::stepped_call().and_then(|call| call.waiting_work.get().and_then(Weak::upgrade));
        // Or a worker's function runs this loop itself.
        let Some(parent) = waiting.or_else(workers::current) else { return };
        *lock(&parent.awaits) = Weak::clone(&self.me);
        let _ = self.parent.set(Arc::downgrade(&parent));
    }

    fn part(&self) {
        if let Some(parent) = self.parent.get().and_then(Weak::upgrade) {
            *lock(&parent.awaits) = Weak::new();
        }
    }

    /// Has the call made by a worker. If one spins for it, that may take less time than to go to sleep for the result.
    fn submit_and_wait(&self, py: Python<'_>, me: &Arc<Self>) -> Started {
        let Some(inbox) = self.inbox.get().filter(|inbox| !inbox.spins()) else {
            workers::submit(py, me);
            return Started::Waits;
        };
        self.meeting.expect();
        if let Some((announcement, worker_cpu)) = workers::submit_to_come(py, me) {
            inbox.spin(py, worker_cpu, || announcement.make(), || self.meeting.is_met());
        }
        if self.meeting.leave() { Started::Met } else { Started::Waits }
    }

    fn begin_queueing(&self, py: Python<'_>, in_trio: bool) -> PyResult<()> {
        let origin = names::origin(py)?.call_method0(intern!(py, "get"))?;
        self.comes_from_worker.store(origin.is_truthy()?, Relaxed);
        let task = if in_trio { names::trio_task(py)?.call0()? } else { names::current_task(py)?.call0()? };
        self.task.store(task.as_ptr() as usize, Relaxed);
        Ok(())
    }

    /// In this very thread, where no other can be started any more.
    pub fn run_here(&self, py: Python<'_>) {
        let Some(payload) = self.take_payload() else { return };
        let ran = payload.run.bind(py).call(payload.args.bind(py), Some(payload.kwargs.bind(py)));
        let outcome = ran.map_or_else(Outcome::Raised, |value| Outcome::Returned(value.unbind()));
        let (next, news) = self.finish(py, Some(outcome));
        if let Some(news) = news {
            news.tell_now(py);
        }
        workers::serve(py, next);
    }

    /// No worker will ever run it.
    pub fn fail(&self, py: Python<'_>, error: PyErr) {
        drop(self.take_payload());
        let (next, news) = self.finish(py, Some(Outcome::Raised(error)));
        if let Some(news) = news {
            news.tell_now(py);
        }
        workers::serve(py, next);
    }
}

/// What is to be told to the task of a call that has ended.
#[must_use]
pub enum News {
    Ring(Ring),
    /// The loop's thread waits there at this moment, detached.
    Meeting(Arc<Meeting>, Weak<Work>),
}

/// What of that does not need the interpreter. A thread that spins comes at once, and would collide with one that holds it.
#[must_use]
pub enum Ready {
    Rung(Rung),
    Meeting(Arc<Meeting>, Weak<Work>),
}

/// What could not be told so.
#[must_use]
pub enum Untold {
    Refused(Refused),
    Missed(Weak<Work>),
}

impl News {
    /// Comes first, attached.
    pub fn prepare(self, py: Python<'_>) -> Option<Ready> {
        match self {
            Self::Ring(ring) => ring.prepare(py).map(Ready::Rung),
            Self::Meeting(meeting, work) => Some(Ready::Meeting(meeting, work)),
        }
    }

    pub fn tell_now(self, py: Python<'_>) {
        if let Some(untold) = self.prepare(py).and_then(|mut ready| ready.tell()) {
            untold.tell_now(py);
        }
    }
}

impl Ready {
    /// Once; for any thread, attached or not. What comes back has to be told attached, and this to be dropped so (by 4).
    pub fn tell(&mut self) -> Option<Untold> {
        match self {
            Self::Rung(rung) => rung.finish().map(Untold::Refused),
            Self::Meeting(meeting, work) => (!meeting.meet()).then(|| Untold::Missed(Weak::clone(work))),
        }
    }
}

impl Untold {
    pub fn tell_now(self, py: Python<'_>) {
        match self {
            Self::Refused(refused) => refused.close(py),
            Self::Missed(work) => {
                if let Some(ring) = work.upgrade().and_then(|work| work.send_word(py)) {
                    ring.ring_now(py);
                }
            }
        }
    }
}

impl Operation for Work {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started> {
        let Some(me) = self.me() else { return Ok(Started::Waits) };
        let in_trio = inbox.is_in_trio();
        let _ = self.inbox.set(inbox);
        self.prepare(py)?;
        self.join();
        if self.limits.take_for(&me) {
            return Ok(self.submit_and_wait(py, &me));
        }
        self.begin_queueing(py, in_trio)?;
        if !self.limits.queue_for(&me) {
            workers::submit(py, &me);
        } else if self.may_close_a_circle() && self.is_stuck(&mut Vec::new()) && self.limits.leave_queue(self.number) {
            self.part();
            drop(self.take_payload());
            return Err(self.limits.deadlock(py));
        }
        Ok(Started::Waits)
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.part();
        let carried = lock(&self.carried).take();
        if let Some(carried) = carried {
            carried.write_back(py, false)?;
        }
        let outcome = lock(&self.outcome).take();
        match outcome {
            Some(Outcome::Returned(value)) => Ok(value),
            Some(Outcome::Raised(error)) if error.is_instance_of::<PyStopIteration>(py) => {
                let explained = PyRuntimeError::new_err(
                    "a function in a worker thread raised StopIteration, which can't be raised in a coroutine",
                );
                Err(errors::from_cause(py, explained, error))
            }
            Some(Outcome::Raised(error)) => Err(error),
            None => Err(PyRuntimeError::new_err("the task was woken before its worker had ended")),
        }
    }

    fn cancel(&self, py: Python<'_>) {
        self.part();
        self.given_up.store(true, SeqCst);
        drop(lock(&self.carried).take());
        if self.limits.leave_queue(self.number) {
            drop(self.take_payload());
            return;
        }
        // Not begun: a worker finds nothing to run, and gives the token back.
        drop(self.take_payload());
        let calls = lock(&self.waits_for).clone();
        for (call, _) in calls.iter().filter(|(_, on_cancel)| *on_cancel == OnCancel::End) {
            call.begin_cancelling();
            if let Err(error) = call.cancel_if_asked_and_begun(py) {
                error.write_unraisable(py, None);
            }
        }
        self.report(py);
    }
}

impl Arrival for Work {
    fn arrive(&self, py: Python<'_>) {
        if self.is_given_up() {
            self.report(py);
        } else {
            self.waker.ring(py);
        }
    }

    fn be_lost(&self, py: Python<'_>) {
        self.given_up.store(true, SeqCst);
        drop(lock(&self.carried).take());
        self.report(py);
    }
}
