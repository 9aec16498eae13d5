//! A worker thread runs an async function on its sender (the loop that sent it), and waits; and `check_cancelled`.
//!
//! Invariants:
//! 1. The wait ends also when the loop ends, when nobody drives it any more, or when the task that waits for the worker
//!    was cancelled. The worker is told of the first and the last, and looks for the rest once in a while.
//! 2. The coroutine runs in a task of its own, with the context variables of the worker's call, and what it changes in
//!    them comes back.
//! 3. The wait goes by `process::sleep`: once the exit has come far enough, no worker attaches.

use super::behind;
use super::inbox::{Health, Inbox};
use super::waits::OnCancel;
use super::work::{self, Work};
use crate::call::errands::Errands;
use crate::call::heard::UnderWay;
use crate::call::outcome::{Outcome, as_cancelled_here, cancelled_error, is_cancelled};
use crate::call::state::Call;
use crate::call::taker::Taker;
use crate::call::wait::{Awaited, FOR_EVER, Fate, Patience, Wait};
use crate::call::waiter::Waiter;
use crate::coroutine::target::Target;
use crate::python::context::Carried;
use crate::python::errors;
use crate::python::long_waits::{LongWait, Movable};
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::spans::Span;
use crate::python::surroundings::ANYIO;
use crate::python::{recording, tracing};
use crate::runner::arrival::Arrival;
use crate::runner::attached::thread_of;
use crate::task::start::{RunIn, start_call};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::latch::Waited;
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, take};

/// A waiting worker wakes up by itself after the first time. From then on it is told of what it has to know, and every
/// `CHECK_INTERVAL` it looks whether it waits in vain. One of anyio's, which is not told, wakes up after twice that time, and
/// so on, up to the longest.
const FIRST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(100);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a cancelled coroutine may clean up before its worker goes on without it.
const CLEANUP: Duration = Duration::from_secs(5);

/// Runs the async function `fn` on the loop that sent this worker thread, and waits for its result.
///
///     def crawl() -> list[str]:  # await syncline.to_thread(crawl)
///         return [syncline.from_thread(fetch, url) for url in urls]
///
/// Where the await of the worker is cancelled, the coroutine is, too. Raises what `fn` raises; RunnerClosedError where
/// that loop has ended; RuntimeError in a thread that no loop has sent. anyio's worker threads are reached, too.
#[pyfunction]
#[pyo3(signature = (r#fn, /, *args, **kwargs))]
pub fn from_thread(
    py: Python<'_>,
    r#fn: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    signals::ended_or_refused(py, run_function(py, r#fn, args, kwargs))
}

fn run_function(
    py: Python<'_>,
    r#fn: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let Some(sender) = Sender::find(py)? else { return Err(not_a_worker(r#fn)) };
    if sender.is_given_up(py) {
        return Err(cancelled_error(py));
    }
    let target = Target::from_function("from_thread", r#fn, args, kwargs)?;
    let patience = Patience { begun: Instant::now(), timeout: None, cleanup: CLEANUP, stall_after: None };
    if recording::is_wanted() {
        return observed(r#fn, target, |target| run_there(py, &sender, target, patience, true, &Arc::default()));
    }
    run_there(py, &sender, target, patience, true, &Arc::default())
}

#[cold]
fn observed(
    function: &Bound<'_, PyAny>,
    target: Target,
    run: impl FnOnce(Target) -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = function.py();
    let (target, span) = target.with(py, Span::begin(function, "from_thread", None))?;
    let result = tracing::blocking(function, "the loop of a worker thread", || run(target));
    span.end(py, result)
}

/// Who sent this worker thread.
pub struct Sender {
    inbox: Arc<Inbox>,
    /// The call that this thread makes. `None` in a thread of anyio's.
    work: Option<Arc<Work>>,
}

impl Sender {
    pub fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        if let Some((work, inbox)) = behind::sender() {
            return Ok(Some(Self { inbox, work: Some(work) }));
        }
        if !ANYIO.is_there(py) {
            return Ok(None);
        }
        let found = names::anyio_sender(py)?.call0()?;
        if found.is_none() {
            return Ok(None);
        }
        let (anchor, in_trio) = found.extract::<(Bound<'_, PyAny>, bool)>()?;
        Ok(Some(Self { inbox: Inbox::of_other_thread(&anchor, in_trio)?, work: None }))
    }

    /// Whether the await that sent this thread was cancelled.
    fn is_given_up(&self, py: Python<'_>) -> bool {
        match &self.work {
            Some(work) => work.is_given_up(),
            None => is_cancelled_by_anyio(py),
        }
    }
}

fn is_cancelled_by_anyio(py: Python<'_>) -> bool {
    let asked = names::anyio_is_cancelled(py).and_then(|ask| ask.call0()?.extract());
    asked.unwrap_or_else(|error| {
        signals::keep_unless_exception(py, error);
        false
    })
}

/// Runs the target on the loop that sent this worker thread, and waits.
pub fn run_there(
    py: Python<'_>,
    sender: &Sender,
    target: Target,
    patience: Patience,
    shares_context: bool,
    stats: &Arc<Stats>,
) -> PyResult<Py<PyAny>> {
    let (target, carried) = target.with(py, Carried::fresh(py))?;
    let inbox = &sender.inbox;
    let call = Call::new(Taker::SleeperOfOthers, &"the loop of a worker thread".into(), &Arc::default(), stats);
    let _under_way = UnderWay(stats);
    let waiting = sender.work.as_ref().map(|work| WaitingHere::begin(py, work, &call));
    inbox.deliver(
        py,
        Arc::new(SentCall {
            call: Arc::clone(&call),
            inbox: Arc::downgrade(inbox),
            todo: Mutex::new(Some((target, carried.context(py)))),
        }),
    );
    let mut awaited = SendersCall {
        sender,
        inbox,
        call: &call,
        is_told: false,
        tick: FIRST_TICK,
        begun: patience.begun,
        next_check: patience.begun + CHECK_INTERVAL,
        stands_since: None,
        examined: None,
        end: None,
        moves: None,
    };
    let result = Wait::begin(patience).wait_for(py, &mut awaited).map_err(|error| {
        // The await of this worker was cancelled, and with it the coroutine, which may have ended before this thread
        // saw that.
        let is_told = is_cancelled(py, &error) && sender.is_given_up(py);
        if is_told { as_cancelled_here(py, error) } else { error }
    });
    drop(waiting);
    let written = if shares_context { carried.write_back(py, false) } else { Ok(()) };
    signals::ended(py, written.and(result))
}

/// While it lives, the work counts as waiting for the call.
struct WaitingHere<'a>(&'a Work);

impl<'a> WaitingHere<'a> {
    fn begin(py: Python<'_>, work: &'a Work, call: &Arc<Call>) -> Self {
        if !work.begin_waiting_for(py, call, OnCancel::End, None) {
            call.begin_cancelling();
        }
        Self(work)
    }
}

impl Drop for WaitingHere<'_> {
    fn drop(&mut self) {
        self.0.end_waiting();
    }
}

fn not_a_worker(function: &Bound<'_, PyAny>) -> PyErr {
    let name = errors::name_of(function);
    PyRuntimeError::new_err(format!(
        "from_thread() runs an async function on the loop that sent this thread its work, and this is no worker thread of \
         syncline's or anyio's; use run_sync({name}, ...), or come here by `await to_thread(...)`"
    ))
}

/// A call on its way to its loop. If it never gets there, the coroutine is closed, and the call says that the loop is
/// gone.
struct SentCall {
    call: Arc<Call>,
    inbox: Weak<Inbox>,
    /// What is to run, and in which context.
    todo: Mutex<Option<(Target, Py<PyAny>)>>,
}

impl Arrival for SentCall {
    fn arrive(&self, py: Python<'_>) {
        let Some((target, context)) = take(&self.todo) else { return };
        let event_loop = self.inbox.upgrade().and_then(|inbox| inbox.event_loop(py));
        let refused = match &event_loop {
            None => Some(loop_is_gone(py)),
            Some(_) if self.call.is_to_be_cancelled(Instant::now()) => Some(cancelled_error(py)),
            Some(_) => None,
        };
        if let Some(error) = refused {
            target.discard(py);
            self.call.lose(py, error);
        } else if let Some(event_loop) = event_loop {
            start_call(&event_loop, &self.call, target, RunIn::Task(context), false);
            // The first step may itself have cancelled the task that waits for the worker, when this call had no task
            // yet.
            cancel_if_asked(py, &self.call);
        }
    }

    fn be_lost(&self, py: Python<'_>) {
        if let Some((target, _)) = take(&self.todo) {
            target.discard(py);
            self.call.lose(py, loop_is_gone(py));
        }
    }
}

/// A cancellation on its way to its loop.
struct SentCancel(Arc<Call>);

impl Arrival for SentCancel {
    fn arrive(&self, py: Python<'_>) {
        cancel_if_asked(py, &self.0);
    }

    fn be_lost(&self, _py: Python<'_>) {}
}

fn cancel_if_asked(py: Python<'_>, call: &Call) {
    if let Err(error) = call.cancel_if_asked_and_begun(py) {
        error.write_unraisable(py, None);
    }
}

/// Has the worker that waits for the call look up when the loop has ended.
struct EndOfLoop(Arc<Call>);

impl Arrival for EndOfLoop {
    fn arrive(&self, _py: Python<'_>) {}

    fn be_lost(&self, _py: Python<'_>) {
        self.0.slot.rouse();
    }
}

fn loop_is_gone(py: Python<'_>) -> PyErr {
    errors::runner_closed(
        py,
        "the event loop that sent this worker thread was closed, or nobody runs it any more, before the call ended; keep \
         it running until its workers are done, or use run_sync(), which has a loop of its own"
            .to_owned(),
    )
}

struct SendersCall<'a> {
    sender: &'a Sender,
    inbox: &'a Arc<Inbox>,
    call: &'a Arc<Call>,
    /// Whether this thread knows that the await which sent it was cancelled.
    is_told: bool,
    tick: Duration,
    begun: Instant,
    next_check: Instant,
    stands_since: Option<Instant>,
    /// Makes this wait known to reports, from the end of its first sleep on.
    examined: Option<LongWait>,
    /// The same for the end of the loop to this wait.
    end: Option<Arc<dyn Arrival>>,
    /// How often tokens of its limiter had changed hands at the last check.
    moves: Option<u64>,
}

impl SendersCall<'_> {
    fn make_known(&mut self, py: Python<'_>) {
        let may_move = self.inbox.runner().is_none() && !self.inbox.is_in_trio();
        let event_loop = self.inbox.event_loop(py);
        // Without Python code: the exit may come meanwhile.
        let thread = event_loop.as_ref().and_then(thread_of).unwrap_or(self.inbox.thread_id);
        let movable = event_loop.filter(|_| may_move).map(|event_loop| Movable(event_loop.unbind()));
        if self.examined.as_ref().is_none_or(|known| !known.is_for(thread)) {
            let subject: Arc<Call> = Arc::clone(self.call);
            self.examined = LongWait::begin(py, thread, movable, self.begun, subject).ok();
        }
    }

    /// Has this thread told of the end of the loop, as it is if the await that sent it is cancelled; not by anyio.
    fn is_told_of_all(&mut self, _py: Python<'_>) -> bool {
        if self.sender.work.is_some() && self.end.is_none() {
            let end: Arc<dyn Arrival> = Arc::new(EndOfLoop(Arc::clone(self.call)));
            self.inbox.tell_of_end(Arc::downgrade(&end));
            self.end = Some(end);
        }
        self.end.is_some()
    }

    /// Raises DeadlockError if the loop's thread waits for something that this thread has.
    fn find_deadlock(&mut self, py: Python<'_>) -> PyResult<()> {
        self.make_known(py);
        match self.examined.as_ref().map_or(Ok(None), |wait| wait.is_blocked(py)) {
            Ok(Some(report)) => return Err(errors::deadlock(py, report)),
            Ok(None) => {}
            Err(error) => signals::keep_unless_exception(py, error),
        }
        Ok(())
    }
}

impl Awaited for SendersCall<'_> {
    type Output = Py<PyAny>;

    fn take(&mut self, _py: Python<'_>) -> Option<Outcome> {
        self.call.take()
    }

    fn fate(&mut self, py: Python<'_>) -> Fate {
        let now = Instant::now();
        match self.inbox.health(py) {
            Ok(Health::Runs) => self.stands_since = None,
            Ok(Health::Stands) if now - *self.stands_since.get_or_insert(now) < CHECK_INTERVAL => {}
            Ok(Health::Stands | Health::Gone) => return Fate::Gone,
            Err(error) => _ = signals::keep(py, error),
        }
        Fate::Runs
    }

    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()> {
        let left = due.map_or(self.tick, |at| at.saturating_duration_since(Instant::now()).min(self.tick));
        let call = self.call;
        if process::sleep(py, || call.slot.wait(Some(left))) == Waited::TimedOut {
            self.tick = if self.is_told_of_all(py) { FOR_EVER } else { (self.tick * 2).min(LONGEST_TICK) };
            self.make_known(py);
        }
        Ok(())
    }

    fn next_look(&self, _now: Instant) -> Option<Instant> {
        Some(self.next_check)
    }

    fn cancel(&mut self, py: Python<'_>) {
        // If the await was cancelled, it has cancelled the coroutine itself; not so an await of anyio's.
        if !self.is_told || self.sender.work.is_none() {
            self.call.begin_cancelling();
            self.inbox.deliver(py, Arc::new(SentCancel(Arc::clone(self.call))));
        }
    }

    fn outer_is_to_end(&mut self, py: Python<'_>, _now: Instant) -> bool {
        self.is_told |= self.sender.is_given_up(py);
        self.is_told
    }

    fn look_after(&mut self, py: Python<'_>, now: Instant) -> PyResult<()> {
        if self.next_check <= now {
            self.next_check = now + CHECK_INTERVAL;
            if let Some(work) = &self.sender.work {
                work.look_after(py, &mut self.moves);
            }
            return self.find_deadlock(py);
        }
        Ok(())
    }

    fn errands(&self) -> Option<&Errands> {
        self.call.errands()
    }

    fn abandon(&mut self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        self.call.leave_alone(py, waited_for_cleanup);
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        loop_is_gone(py)
    }

    /// Whether the loop has ended, rather than the task that waits for the worker.
    fn is_closing(&self, py: Python<'_>) -> bool {
        !self.sender.is_given_up(py)
            && (self.inbox.runner().is_some_and(|runner| runner.is_closing())
                || self.inbox.health(py).is_ok_and(|health| health == Health::Gone))
    }
}

/// Raises CancelledError in a worker thread whose await was cancelled, for functions that take long.
///
/// Works in anyio's worker threads, too. Raises RuntimeError in any other thread.
#[pyfunction]
pub fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    let Some(work) = work::current() else {
        if let Some(sender) = Sender::find(py)? {
            return if sender.is_given_up(py) { Err(cancelled_error(py)) } else { Ok(()) };
        }
        return Err(PyRuntimeError::new_err(
            "check_cancelled() asks whether the await that sent a worker thread was cancelled, and this is no worker \
             thread of syncline's; come here by `await to_thread(...)`",
        ));
    };
    if work.is_given_up() { Err(cancelled_error(py)) } else { Ok(()) }
}
