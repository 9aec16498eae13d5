//! One call of a sync function in a worker thread, as its task, its limiter and its worker see it.
//!
//! Invariants:
//! 1. What is to run is taken once: by the worker that runs it, or by a task that stops waiting before it has begun.
//! 2. The token is given back when the function has ended, not when its task stops waiting: what is limited are
//!    threads.
//! 3. A result is taken once. An error that nobody takes is logged.
//! 4. No Python object is dropped while detached.

use super::awaiting::{Operation, SeenOperation, Started, Waker, result_of};
use super::extras::{WorkExtras, take_locals_along};
use super::inbox::Inbox;
use super::limits::{Claim, InQueue, Limits, serve};
use super::notice::{Notice, Recipient};
use super::waits::{OnCancel, Waits};
use super::watched::Watching;
use super::workers::{self, Payload, WorkerJob, Works};
use crate::call::outcome::{Outcome, is_no_news};
use crate::call::state::Call;
use crate::call::stepping::stepped_call;
use crate::call::waiter::{self, Waiter};
use crate::call::waiting_tasks;
use crate::python::context::{Carried, Variable};
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::recording;
use crate::python::surroundings::{ANYIO, LOOK_AT_TASK};
use crate::runner::arrival::Arrival;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use std::any::Any;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::meeting::Meeting;
use syncline_core::sync::{Mutex, lock, replace, take};
use syncline_core::waits::Node;

/// What `Work::progress` says.
const OPEN: u8 = 0;
const BEGUN_WITH_EXTRAS: u8 = 1;
const ENDED: u8 = 2;

type Function = (Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>);

pub struct Work {
    me: Weak<Work>,
    /// A number that no other call has.
    number: u64,
    /// What the user asked for, until it is awaited.
    function: Mutex<Option<Function>>,
    /// The same from then on, as the worker is to call it, until it has begun.
    payload: Mutex<Option<Payload>>,
    carried: Mutex<Option<Carried>>,
    /// What few calls have.
    extras: Mutex<Option<Box<WorkExtras>>>,
    outcome: Mutex<Option<Outcome>>,
    /// Nobody waits for the result any more.
    given_up: AtomicBool,
    /// `OPEN`, `BEGUN_WITH_EXTRAS` or `ENDED`.
    progress: AtomicU8,
    waker: Waker,
    /// Where the loop's thread may wait for the result.
    meeting: Arc<Meeting>,
    inbox: OnceLock<Arc<Inbox>>,
    limits: Arc<Limits>,
    waits_for: Waits,
    /// Another work that was asked for on behalf of this one and is awaited: by the task of a call that the function
    /// waits for, or on a loop that the function runs itself.
    awaits: Mutex<Weak<Work>>,
    /// The work whose function asked for this one.
    parent: OnceLock<Weak<Work>>,
    /// Whether it was asked for, directly or not, by what a worker called; known once it has to queue.
    comes_from_worker: AtomicBool,
    /// The task that waits for it, by address; known once it has to queue.
    task: AtomicUsize,
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
            extras: Mutex::new(None),
            outcome: Mutex::new(None),
            given_up: AtomicBool::new(false),
            progress: AtomicU8::new(OPEN),
            waker: Waker::default(),
            meeting: Arc::default(),
            inbox: OnceLock::new(),
            limits: Arc::clone(limits),
            waits_for: Waits::default(),
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

    /// The function, until it has begun.
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let payload = lock(&self.payload);
        payload.as_ref().and_then(|payload| payload.args.bind(py).get_item(0).ok()).map(Bound::unbind)
    }

    /// What is to be known of the task that waits.
    #[cold]
    fn look_at_task(&self, py: Python<'_>) -> PyResult<()> {
        if ANYIO.is_there(py) {
            let scope = names::anyio_scope(py)?.call0()?;
            self.with_extras(|extras| extras.anyio_scope = Some(scope.unbind()));
        }
        waiting_tasks::note(py, Weak::<Self>::clone(&self.me))
    }

    fn prepare(&self, py: Python<'_>) -> PyResult<()> {
        let Some((function, args, kwargs)) = take(&self.function) else { return Ok(()) };
        let watch = recording::is_wanted().then(|| Watching::begin(function.bind(py), "to_thread")).transpose()?;
        // The mark `origin` is inherited by all that the function calls, and by the tasks that it starts.
        let (carried, origin) = (Carried::fresh(py)?, Variable::new(names::origin(py)?));
        let is_marked = carried.has(origin)?;
        let carried = if is_marked { carried } else { carried.with_own(origin, PyBool::new(py, true).as_any())? };
        let run = carried.context(py).getattr(py, intern!(py, "run"))?;
        if let Some(watch) = watch {
            let watch = watch.handed_over(py)?;
            self.with_extras(|extras| extras.watch = Some(watch));
        }
        let args = args.bind(py);
        let all = std::iter::once(function.into_bound(py)).chain(args.iter()).collect::<Vec<_>>();
        let args = PyTuple::new(py, all)?.unbind();
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py).unbind());
        drop(replace(&self.payload, Some(Payload { run, args, kwargs })));
        drop(replace(&self.carried, Some(carried)));
        if LOOK_AT_TASK.is_due(py) && self.inbox.get().is_some_and(|inbox| !inbox.is_in_trio()) {
            self.look_at_task(py)?;
        }
        Ok(())
    }

    #[cold]
    fn with_extras(&self, set: impl FnOnce(&mut WorkExtras)) {
        set(lock(&self.extras).get_or_insert_default());
    }

    /// The function is about to begin, in this thread.
    fn begin_extras(&self, py: Python<'_>) -> PyResult<()> {
        let Some(mut extras) = take(&self.extras) else { return Ok(()) };
        let begun = extras.begin(py, self.inbox());
        self.progress.store(BEGUN_WITH_EXTRAS, SeqCst);
        drop(replace(&self.extras, Some(extras)));
        begun
    }

    #[cold]
    fn end_extras(&self, py: Python<'_>, outcome: Option<Outcome>) -> Option<Outcome> {
        let mut extras = take(&self.extras)?;
        let outcome = extras.end(py, outcome);
        // They go with the rest, in the thread that has made them: memory of other threads is slow to free.
        drop(replace(&self.extras, Some(extras)));
        outcome
    }

    /// What is to run, unless it was taken (by 1).
    fn take_payload(&self) -> Option<Payload> {
        take(&self.payload)
    }

    /// Has nobody run it that has not begun to.
    fn drop_payload(&self) {
        if self.take_payload().is_some() {
            drop(take(&self.extras));
        }
    }

    /// The function has ended, or will never run. Returns those who have a token now, and the notice for the task's
    /// loop.
    fn end_job(&self, py: Python<'_>, outcome: Option<Outcome>) -> (Vec<InQueue>, Option<Notice>) {
        let outcome = match self.progress.swap(ENDED, SeqCst) {
            BEGUN_WITH_EXTRAS => self.end_extras(py, outcome),
            _ => outcome,
        };
        drop(replace(&self.outcome, outcome));
        let next = self.limits.give_back(py, self.number);
        if self.is_given_up() {
            self.report(py);
            return (next, None);
        }
        let Some((inbox, me)) = self.inbox.get().zip(self.me()) else { return (next, None) };
        if self.meeting.is_expected() {
            return (next, Some(Notice::Meeting(Arc::clone(&self.meeting), Arc::<Inbox>::clone(inbox), me)));
        }
        (next, Arc::clone(inbox).put(py, me))
    }

    fn end_job_here(&self, py: Python<'_>, outcome: Outcome) {
        let (next, notice) = self.end_job(py, Some(outcome));
        if let Some(notice) = notice {
            notice.send_now(py);
        }
        serve(py, next);
    }

    /// Logs the error of a call whose task has stopped waiting (by 3).
    fn report(&self, py: Python<'_>) {
        let late = take(&self.outcome);
        // At exit, `SystemExit` is raised in daemon threads to end them.
        let is_usual =
            |error: &PyErr| is_no_news(py, error) || process::is_exiting() && error.is_instance_of::<PySystemExit>(py);
        if let Some(Outcome::Raised(error)) = late
            && !is_usual(&error)
        {
            log::log(py, "error", "a call in a worker thread that nobody waits for any more raised", Some(&error));
        }
    }

    /// The function begins to wait for a call. False if the task has stopped waiting for the function.
    pub fn begin_waiting_for(
        &self,
        py: Python<'_>,
        call: &Arc<Call>,
        on_cancel: OnCancel,
        node: Option<&Arc<Node>>,
    ) -> bool {
        let me: Weak<Self> = Weak::clone(&self.me);
        call.set_waiter(me);
        self.waits_for.add(py, call, on_cancel, self.inbox(), node);
        !self.is_given_up()
    }

    /// Whether anyone who holds a token may be waiting for this call. A cheap look, before `is_stuck` searches: most
    /// calls that queue just wait for their turn.
    fn may_close_a_circle(&self) -> bool {
        self.parent.get().is_some() || self.limits.is_borrowed_by(self.task.load(Relaxed))
    }

    /// Notes which other work waits for this one, if any does, for `is_stuck`.
    fn join(&self) {
        let waiting = stepped_call().and_then(|call| call.waiter()).and_then(of);
        // Either its function waits for the call that runs here, or it runs this loop itself, in this thread.
        let Some(parent) = waiting.or_else(current) else { return };
        drop(replace(&parent.awaits, Weak::clone(&self.me)));
        let _ = self.parent.set(Arc::downgrade(&parent));
    }

    /// Undoes `join`.
    fn part(&self) {
        if let Some(parent) = self.parent.get().and_then(Weak::upgrade) {
            drop(replace(&parent.awaits, Weak::new()));
        }
    }

    /// Gives the call to a worker. If one spins for work, the loop's thread waits a moment for the result: that may
    /// take less time than it takes to go to sleep. On one core it makes way for a worker that it wakes.
    fn submit_and_wait(&self, py: Python<'_>, me: &Arc<Self>) -> Started {
        let Some((inbox, gives_way)) =
            self.inbox.get().map(|inbox| (inbox, inbox.gives_way())).filter(|(inbox, way)| *way || !inbox.spins())
        else {
            workers::submit(py, &as_job(me));
            return Started::Waits;
        };
        self.meeting.expect();
        if let Some((worker, worker_cpu)) = workers::submit_to_come(py, &as_job(me), gives_way) {
            inbox.spin(py, worker_cpu, || worker.tell(), || self.meeting.is_met());
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
}

fn as_job(work: &Arc<Work>) -> Arc<dyn WorkerJob> {
    Arc::<Work>::clone(work)
}

/// The job that waits for a call, as a `Work`, which all such jobs are.
fn of(job: Arc<dyn Any + Send + Sync>) -> Option<Arc<Work>> {
    job.downcast().ok()
}

/// The call that this worker thread makes.
pub fn current() -> Option<Arc<Work>> {
    waiter::here().and_then(|job| of(job))
}

impl Waiter for Work {
    fn begin_waiting(&self, py: Python<'_>, call: &Arc<Call>, node: Option<&Arc<Node>>) {
        self.begin_waiting_for(py, call, OnCancel::GoOn, node);
    }

    fn end_waiting(&self) {
        self.waits_for.end_last();
    }

    /// If no token has changed hands since the last look, and calls queue, one more worker may be needed
    /// (`Limits::relieve`).
    fn look_after(&self, py: Python<'_>, seen: &mut Option<u64>) {
        let counts = self.limits.counts();
        if *seen == Some(counts.moves) && counts.waiting > 0 {
            self.limits.relieve(py);
        }
        *seen = Some(counts.moves);
    }
}

impl Claim for Work {
    fn number(&self) -> u64 {
        self.number
    }

    fn is_stuck(&self, seen: &mut Vec<u64>) -> bool {
        if seen.contains(&self.number) {
            return true;
        }
        if self.progress.load(SeqCst) == ENDED {
            return false;
        }
        seen.push(self.number);
        if self.limits.is_queued(self.number) {
            return self.limits.is_stuck(seen);
        }
        let inner = lock(&self.awaits).upgrade();
        inner.is_some_and(|inner| inner.is_stuck(seen))
    }

    fn is_waiting(&self) -> bool {
        !self.waits_for.is_empty()
    }

    fn comes_from_worker(&self) -> bool {
        self.comes_from_worker.load(Relaxed)
    }

    fn task(&self) -> usize {
        self.task.load(Relaxed)
    }

    fn shown(&self, py: Python<'_>) -> Py<PyAny> {
        self.function(py).unwrap_or_else(|| intern!(py, "a worker thread").clone().into_any().unbind())
    }

    fn job(self: Arc<Self>) -> Arc<dyn WorkerJob> {
        self
    }
}

impl WorkerJob for Work {
    fn begin(self: Arc<Self>, py: Python<'_>) -> Option<Payload> {
        let payload = self.take_payload()?;
        if let Err(error) = self.begin_extras(py).and_then(|()| take_locals_along(py, &self.carried)) {
            error.write_unraisable(py, None);
        }
        drop(waiter::enter(Some(self)));
        Some(payload)
    }

    fn finish(&self, py: Python<'_>, outcome: Option<Outcome>) -> (Option<Arc<dyn WorkerJob>>, Option<Notice>) {
        let (mut served, notice) = self.end_job(py, outcome);
        let next = match served.first() {
            Some(InQueue::Claim(claim)) => Some(Arc::clone(claim).job()),
            _ => None,
        };
        if next.is_some() {
            served.remove(0);
        }
        serve(py, served);
        (next, notice)
    }

    fn run_here(&self, py: Python<'_>) {
        let Some(payload) = self.take_payload() else { return };
        if let Err(error) = self.begin_extras(py) {
            error.write_unraisable(py, None);
        }
        let ran = payload.run.bind(py).call(payload.args.bind(py), Some(payload.kwargs.bind(py)));
        self.end_job_here(py, ran.map_or_else(Outcome::Raised, |value| Outcome::Returned(value.unbind())));
    }

    fn fail(&self, py: Python<'_>, error: PyErr) {
        self.drop_payload();
        self.end_job_here(py, Outcome::Raised(error));
    }

    fn pool(&self) -> Option<Arc<Works>> {
        self.limits.own_pool()
    }

    fn shown_number(&self) -> Option<u64> {
        Some(self.number)
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
        if self.limits.take_for(Arc::<Self>::clone(&me)) {
            return Ok(self.submit_and_wait(py, &me));
        }
        self.begin_queueing(py, in_trio)?;
        if !self.limits.queue_for(Arc::<Self>::clone(&me)) {
            workers::submit(py, &as_job(&me));
        } else if self.may_close_a_circle() && self.is_stuck(&mut Vec::new()) && self.limits.leave_queue(self.number) {
            self.part();
            self.drop_payload();
            return Err(self.limits.deadlock(py));
        }
        Ok(Started::Waits)
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.part();
        let carried = take(&self.carried);
        if let Some(carried) = carried {
            carried.write_back(py, false)?;
        }
        result_of(py, take(&self.outcome))
    }

    fn cancel(&self, py: Python<'_>) {
        self.part();
        self.given_up.store(true, SeqCst);
        drop(take(&self.carried));
        if self.limits.leave_queue(self.number) {
            self.drop_payload();
            return;
        }
        // If it has not begun, its worker finds nothing to run, and gives the token back.
        self.drop_payload();
        for call in self.waits_for.to_end() {
            call.begin_cancelling();
            if let Err(error) = call.cancel_if_asked_and_begun(py) {
                error.write_unraisable(py, None);
            }
            call.slot.rouse();
        }
        self.report(py);
    }

    fn seen(&self, py: Python<'_>) -> SeenOperation {
        SeenOperation::Work("work", self.number, self.limits.key(), self.function(py))
    }
}

impl Arrival for Work {
    fn arrive(&self, py: Python<'_>) {
        if self.is_given_up() {
            self.report(py);
        } else {
            self.waker.wake(py);
        }
    }

    fn be_lost(&self, py: Python<'_>) {
        self.given_up.store(true, SeqCst);
        drop(take(&self.carried));
        self.waker.forget(py);
        self.report(py);
    }
}
