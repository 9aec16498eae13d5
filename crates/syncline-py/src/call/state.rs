//! One call: what both sides of a hop know of it, and how it is settled.
//!
//! Invariants:
//! 1. A call is settled once; a second outcome is dropped. What a call raises after its caller has stopped waiting is
//!    logged.
//! 2. A suspended call keeps its task alive, as a loop refers to its tasks weakly. The references call -> task ->
//!    coroutine -> call are a ring, which `settle` opens.
//! 3. No Python object is dropped while detached. PyO3 keeps such objects in a list with a lock, which a fork in
//!    another thread could find taken. The outbox may drop the last reference to a call while detached: by then its
//!    result has been taken, or was dropped by whoever stopped waiting.

use super::errands::{Errand, Errands};
use super::extras::Extras;
use super::home::Home;
use super::observed::Observed;
use super::outcome::{Outcome, explain_loop_mixup, is_no_news};
use super::taker::{DrivenLoop, Taker};
use crate::python::errors;
use crate::python::log;
use crate::python::once::intern;
use crate::python::recording;
use crate::python::signals;
use crate::python::threads::thread_key;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::any::Any;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use syncline_core::closing::Closing;
use syncline_core::slot::Slot;
use syncline_core::stats::Stats;
use syncline_core::sync::{Mutex, lock, replace, take};

/// Timers of loops may fire a little early: loops round them, and uvloop reads its clock only once a turn. So a
/// deadline counts as reached by that much earlier.
pub const TIMER_SLACK: Duration = Duration::from_millis(10);

/// Whether a loop is being closed, and the nested calls that block it.
pub type ClosingLoop = Closing<Call>;

const OPEN: u8 = 0;
const SETTLED: u8 = 1;
const OBSERVED: u8 = 2;

pub struct Call {
    pub slot: Slot<Outcome>,
    pub taker: Taker,
    /// Where it was sent; it may have gone elsewhere (`at_home`).
    sent_to: Home<Self>,
    /// The task, while the call is suspended (by 2).
    task: Mutex<Option<Py<PyAny>>>,
    /// Its caller has asked for its end. The loop's thread cancels the task; or, where a nested call blocks that
    /// thread, the nested call sees this and raises a cancellation.
    cancelling: AtomicBool,
    /// How often its task was cancelled on its behalf.
    cancellations: AtomicU32,
    /// It was, and its coroutine has got no `CancelledError` since.
    is_untold: AtomicBool,
    /// Its coroutine got a `CancelledError` since the call is over. What it does after that is its cleanup, and
    /// nested calls made there are not cancelled again.
    told: AtomicBool,
    /// Its coroutine learned that its loop is being closed from a nested call, by what that raised. The task itself
    /// was not cancelled, and need not be.
    told_by_nested: AtomicBool,
    /// `OPEN`, `OBSERVED` (open, and in a trace) or `SETTLED`.
    progress: AtomicU8,
    /// Nobody waits for it any more.
    abandoned: AtomicBool,
    /// There for few calls.
    extras: OnceLock<Extras<Self>>,
    /// A loop runs in the thread that waits, and stands still meanwhile; known where asgiref is loaded.
    blocks_a_loop: AtomicBool,
    /// There once its coroutine has sent one.
    errands: OnceLock<Errands>,
    pub stats: Arc<Stats>,
}

impl Call {
    pub fn new(taker: Taker, runner_name: &Arc<str>, closing: &Arc<ClosingLoop>, stats: &Arc<Stats>) -> Arc<Self> {
        stats.calls.add(1);
        let mut call = Arc::new(Self {
            slot: Slot::new(),
            taker,
            sent_to: Home { name: Arc::clone(runner_name), closing: Arc::clone(closing) },
            task: Mutex::new(None),
            cancelling: AtomicBool::new(false),
            cancellations: AtomicU32::new(0),
            is_untold: AtomicBool::new(false),
            told: AtomicBool::new(false),
            told_by_nested: AtomicBool::new(false),
            progress: AtomicU8::new(OPEN),
            abandoned: AtomicBool::new(false),
            extras: OnceLock::new(),
            blocks_a_loop: AtomicBool::new(false),
            errands: OnceLock::new(),
            stats: Arc::clone(stats),
        });
        if recording::is_on()
            && let Some(call) = Arc::get_mut(&mut call)
        {
            call.observe();
        }
        call
    }

    #[cold]
    fn observe(&mut self) {
        self.progress = AtomicU8::new(OBSERVED);
        let observed = Observed::new(recording::number(), self.taker.sent_by());
        self.extras = OnceLock::from(Extras::of_observed(observed));
    }

    pub fn extras(&self) -> &Extras<Self> {
        self.extras.get_or_init(Extras::default)
    }

    pub fn known_extras(&self) -> Option<&Extras<Self>> {
        self.extras.get()
    }

    /// What a trace has to know of it, if it is in one.
    pub fn observed(&self) -> Option<&Observed> {
        self.known_extras()?.observed()
    }

    /// The taker has waited for long, and gets its result at once from now on. It has to look at the slot after this
    /// call: a result that came just before is in the outbox, and would be published later.
    pub fn note_long_wait(&self) {
        if let Taker::Sleeper { waits_long, .. } = &self.taker {
            waits_long.store(true, SeqCst);
        }
    }

    /// A call that nobody waits for, from the beginning.
    pub fn for_nobody(runner_name: &Arc<str>) -> Arc<Self> {
        let call = Self::new(Taker::SleeperOfOthers, runner_name, &Arc::default(), &Arc::default());
        call.abandoned.store(true, Relaxed);
        call
    }

    /// Looks at the runner that is to run it.
    pub fn at_home<T>(&self, look: impl FnOnce(&Home<Self>) -> T) -> T {
        match self.known_extras().and_then(Extras::home) {
            Some(home) => look(&home),
            None => look(&self.sent_to),
        }
    }

    pub fn runner_name(&self) -> Arc<str> {
        self.at_home(|home| Arc::clone(&home.name))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.at_home(|home| home.closing.has_begun())
    }

    pub fn is_settled(&self) -> bool {
        self.progress.load(Relaxed) == SETTLED
    }

    /// Notes which worker's job waits for the call. Only the first time counts.
    pub fn set_waiter(&self, waiter: Weak<dyn Any + Send + Sync>) {
        self.extras().set_waiter(waiter);
    }

    pub fn waiter(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.known_extras()?.waiter()
    }

    /// Remembers the task of a call that is suspended.
    pub fn suspended_in(&self, task: Bound<'_, PyAny>) {
        match self.progress.load(Relaxed) {
            SETTLED => return,
            OPEN => {}
            _ => self.observed().into_iter().for_each(Observed::need_track),
        }
        drop(replace(&self.task, Some(task.unbind())));
    }

    /// The task, while the call is suspended.
    pub fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.task).as_ref().map(|task| task.bind(py).clone())
    }

    /// For the thread that drives the loop of a suspended call: settling the call stops this loop, or none.
    pub fn stop_when_settled(&self, stopped: Option<DrivenLoop>) {
        if let Taker::Driver { driven, .. } = &self.taker {
            drop(replace(driven, stopped));
        }
    }

    /// Asks for the end of the call; attached. A `Job::Cancel` has to follow.
    pub fn begin_cancelling(&self) {
        self.cancelling.store(true, Relaxed);
        self.at_home(|home| home.closing.rouse_all());
    }

    /// For a nested call that blocks the loop: it raises a cancellation in the call's coroutine, and the task need
    /// not.
    pub fn take_over_cancelling(&self) {
        self.cancelling.store(false, Relaxed);
        self.note_cancelled();
        self.told_by_nested.store(self.is_closing(), Relaxed);
    }

    /// Whether it learned from a nested call that its loop is being closed. It cleans up already, and to cancel its
    /// task would break that off.
    pub fn knows_of_closing(&self) -> bool {
        self.told_by_nested.load(Relaxed)
    }

    /// Whether its coroutine has been told that the call is over.
    pub fn was_told(&self) -> bool {
        self.told.load(Relaxed)
    }

    pub fn is_to_be_cancelled(&self, now: Instant) -> bool {
        self.cancelling.load(Relaxed) || (!self.told.load(Relaxed) && self.is_over(now))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.is_closing() || self.taker.deadline().is_some_and(|at| at <= now)
    }

    /// Its coroutine gets a `CancelledError`. That is noted only if the call is over: else it came from something in
    /// the coroutine, such as `asyncio.timeout`, and one from us may still have to follow.
    pub fn note_cancelled(&self) {
        self.is_untold.store(false, Relaxed);
        if self.is_over(Instant::now() + TIMER_SLACK) {
            self.told.store(true, Relaxed);
        }
    }

    /// For `Job::Cancel`: cancels the task, unless a nested call has delivered that already.
    pub fn cancel_if_asked(&self, py: Python<'_>) -> PyResult<()> {
        // A call that has ended stays asked (`was_asked_in_vain`).
        if !self.is_settled() && self.cancelling.swap(false, Relaxed) { self.cancel(py) } else { Ok(()) }
    }

    /// Whether it had ended by itself before its coroutine could learn that its caller had asked for its end.
    pub fn was_asked_in_vain(&self) -> bool {
        self.is_settled() && self.cancelling.load(Relaxed)
    }

    /// The same where the task may not have been made yet. Then nothing is done here: whoever makes the task looks.
    pub fn cancel_if_asked_and_begun(&self, py: Python<'_>) -> PyResult<()> {
        if self.task(py).is_some() { self.cancel_if_asked(py) } else { Ok(()) }
    }

    /// Cancels the task; for the loop's thread.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self.task(py) {
            Some(task) if !self.is_settled() => {
                self.cancellations.fetch_add(1, Relaxed);
                self.is_untold.store(true, Relaxed);
                task.call_method0(intern!(py, "cancel")).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether its task has been cancelled on its behalf.
    pub fn was_cancelled(&self) -> bool {
        self.cancellations.load(Relaxed) > 0
    }

    pub fn is_untold(&self) -> bool {
        self.is_untold.load(Relaxed)
    }

    /// How often its task was cancelled on its behalf since the last time that this was asked.
    pub fn take_cancellations(&self) -> u32 {
        self.cancellations.swap(0, Relaxed)
    }

    /// The call has ended, with this outcome. Any thread may say so.
    pub fn settle(self: &Arc<Self>, py: Python<'_>, outcome: Outcome) {
        self.end(py, outcome, true);
    }

    /// The call was lost before any of its code ran. Whoever waits is told, and nobody else.
    pub fn lose(self: &Arc<Self>, py: Python<'_>, error: PyErr) {
        self.end(py, Outcome::Raised(error), false);
    }

    fn end(self: &Arc<Self>, py: Python<'_>, outcome: Outcome, has_run: bool) {
        match self.progress.swap(SETTLED, Relaxed) {
            OPEN => {}
            SETTLED => return,
            _ => self.observed().into_iter().for_each(|observed| observed.end(py, outcome.as_result())),
        }
        drop(take(&self.task));
        if has_run && let Outcome::Raised(error) = &outcome {
            self.look_at_error(py, error);
        }
        if !self.has_a_thread() {
            self.hand_on(py, outcome);
            return;
        }
        // By 1 there is nothing in the slot yet.
        let _ = self.slot.fill(outcome);
        if self.abandoned.load(SeqCst) {
            // By 3: nobody takes it any more. `abandon` sets the flag before it looks into the slot, and we fill the
            // slot before we look at the flag, so one of the two sees the other.
            drop(self.slot.take());
        }
        match &self.taker {
            // This is read after the slot was filled, and the taker looks into the slot after it has set it: so
            // either it finds the result by itself, or we see here that it waits.
            Taker::Sleeper { waits_long, .. } if waits_long.load(SeqCst) => self.slot.publish(),
            Taker::Sleeper { outbox, .. } => outbox.add(Arc::<Self>::clone(self)),
            Taker::SleeperOfOthers | Taker::Future(_) | Taker::Task(_) => self.slot.publish(),
            Taker::Driver { driven, .. } => {
                if let Some(DrivenLoop { event_loop, stops }) = take(driven) {
                    stops.finish(event_loop.bind(py));
                }
            }
        }
    }

    fn look_at_error(&self, py: Python<'_>, error: &PyErr) {
        if error.is_instance_of::<PyRuntimeError>(py) {
            explain_loop_mixup(errors::object(py, error).as_any(), None);
        }
        if self.abandoned.load(Relaxed) {
            log_late_error(py, error);
        }
    }

    /// The result, if there is one.
    pub fn take(&self) -> Option<Outcome> {
        self.slot.take()
    }

    /// Nobody waits any more; an error that comes later is logged. Attached, by 3: a result that is there is dropped.
    pub fn abandon(&self, py: Python<'_>) {
        self.abandoned.store(true, SeqCst);
        drop(self.slot.take());
        self.close_errands(py);
    }

    /// The same for a call that a task awaits.
    pub fn lose_receiver(&self) {
        if let Taker::Task(receiver) = &self.taker {
            drop(take(receiver));
        }
    }

    /// The caller goes on without it. If it was cancelled and has not ended in the time for cleanup, that is logged.
    pub fn leave_alone(&self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        if let Some(cleanup) = waited_for_cleanup {
            let task = self.task(py).map_or_else(|| "a call".to_owned(), |task| signals::repr_of(&task));
            let (name, seconds) = (self.runner_name(), cleanup.as_secs_f64());
            let message = format!(
                "{task} on the runner {name:?} has not ended {seconds} s after it was cancelled; its caller goes on without \
                 it"
            );
            log::log(py, "warning", &message, None);
        }
        self.abandon(py);
    }

    pub fn errands(&self) -> Option<&Errands> {
        self.errands.get()
    }

    pub fn note_blocked_loop(&self) {
        self.blocks_a_loop.store(true, Relaxed);
    }

    pub fn blocks_a_loop(&self) -> bool {
        self.blocks_a_loop.load(Relaxed)
    }

    /// Whether it is one of `submit`, and has not ended.
    pub fn is_promised(&self) -> bool {
        matches!(self.taker, Taker::Future(_)) && !self.is_settled()
    }

    /// Whether a thread waits for the call, as long as it has not ended: for a future, and for a task, none does.
    pub fn has_a_thread(&self) -> bool {
        self.taker.is_a_thread()
    }

    pub fn has_errands(&self) -> bool {
        self.errands().is_some_and(Errands::are_there)
    }

    /// Hands an errand to the thread that waits for the call; for any thread. False if none waits, or no longer.
    pub fn hand_over(&self, py: Python<'_>, errand: Arc<dyn Errand>) -> bool {
        if self.is_settled() || self.is_abandoned() || !self.has_a_thread() {
            return false;
        }
        let errands = self.errands.get_or_init(Errands::default);
        if !errands.add(errand) {
            return false;
        }
        self.rouse(py);
        // The thread that waits looks for errands after it has taken the result, or has abandoned the call. So either
        // it finds this one, or we see here that it is gone.
        if self.abandoned.load(SeqCst) || self.slot.is_taken() {
            errands.close(py);
        }
        true
    }

    /// Whether the thread that waits drives the call's loop itself.
    pub fn is_driven_by_its_thread(&self) -> bool {
        matches!(self.taker, Taker::Driver { .. })
    }

    /// Has the thread that waits for the call look at it, though it has not ended.
    fn rouse(&self, py: Python<'_>) {
        match &self.taker {
            Taker::Sleeper { .. } | Taker::SleeperOfOthers => self.slot.rouse(),
            Taker::Driver { driven, thread, .. } => {
                let driven = lock(driven).as_ref().map(|driven| driven.clone_ref(py));
                // If there is none, its thread is not driving it, and looks for errands before it does.
                let Some(DrivenLoop { event_loop, stops }) = driven else { return };
                let event_loop = event_loop.bind(py);
                signals::through(py, || {
                    if *thread == thread_key() {
                        return stops.stop(event_loop);
                    }
                    let stop = stops.callback(event_loop)?;
                    event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (stop,)).map(drop)
                });
            }
            Taker::Future(_) | Taker::Task(_) => {}
        }
    }

    /// Nobody waits for it in the sense in which a caller does: no errand is ever run.
    pub fn refuse_errands(&self, py: Python<'_>) {
        self.errands.get_or_init(Errands::default).close(py);
    }

    /// The thread that waited goes on: no errand is run any more.
    pub fn close_errands(&self, py: Python<'_>) {
        if let Some(errands) = self.errands() {
            errands.close(py);
        }
    }

    /// Whether its caller has gone on without it, or has asked for its end.
    pub fn is_unwanted(&self) -> bool {
        self.is_abandoned() || self.cancelling.load(Relaxed)
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}

/// For an error that nobody gets any more.
pub fn log_late_error(py: Python<'_>, error: &PyErr) {
    if !is_no_news(py, error) {
        signals::keep_or(py, error, |error| {
            log::log(py, "error", "a call that its caller had stopped waiting for raised an error", Some(error));
        });
    }
}
