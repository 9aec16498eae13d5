//! `run_async`: a coroutine on the bridge's loop, awaited by a task of another loop, without a thread in between.
//!
//! The task waits as for a worker thread: the outcome comes home to its loop's inbox.
//!
//! Invariants:
//! 1. Call and operation refer to each other until the call is settled or the task stops waiting. Whichever comes first
//!    opens the ring.
//! 2. What an ended operation still has are no Python objects: the outbox may drop the last reference while detached.

use super::shared::{Hold, Shared};
use crate::call::outcome::{Outcome, cancelled_error};
use crate::call::state::Call;
use crate::call::taker::{Receiver, Taker};
use crate::coroutine::target::Target;
use crate::python::context::Carried;
use crate::python::errors;
use crate::python::names;
use crate::runner::arrival::Arrival;
use crate::runner::state::{Feeder, Job, Runner, current_runner};
use crate::task::start::RunIn;
use crate::worker::awaiting::{Operation, Pending, Started, Waker};
use crate::worker::inbox::Inbox;
use crate::worker::notice::{Notice, Recipient};
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use syncline_core::mailbox::SendError;
use syncline_core::meeting::Meeting;
use syncline_core::outbox::Publish;
use syncline_core::spin::current_cpu;
use syncline_core::sync::{Mutex, lock, replace, take};

pub struct Remote {
    me: Weak<Remote>,
    /// Keeps the bridge's loops alive.
    hold: Arc<Hold>,
    /// What is to run, until it is awaited.
    target: Mutex<Option<Target>>,
    /// The call and where it runs, while the task waits for it (1).
    under_way: Mutex<Option<(Arc<Call>, Arc<Runner>)>>,
    carried: Mutex<Option<Carried>>,
    outcome: Mutex<Option<Outcome>>,
    /// Whether the task has told the call to end.
    is_told: AtomicBool,
    waker: Waker,
    inbox: OnceLock<Arc<Inbox>>,
    /// Where the loop's thread may wait for the outcome.
    meeting: Arc<Meeting>,
    /// How the task's loop is told, once there is something to tell.
    notice: Mutex<Option<Notice>>,
}

impl Remote {
    fn new(hold: &Arc<Hold>, target: Target) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            hold: Arc::clone(hold),
            target: Mutex::new(Some(target)),
            under_way: Mutex::new(None),
            carried: Mutex::new(None),
            outcome: Mutex::new(None),
            is_told: AtomicBool::new(false),
            waker: Waker::default(),
            inbox: OnceLock::new(),
            meeting: Arc::default(),
            notice: Mutex::new(None),
        })
    }

    /// Sends the call to its loop. Gives the job back if that takes no more.
    fn send(&self, py: Python<'_>, runner: &Arc<Runner>, inbox: &Inbox, job: Job) -> Result<Started, Job> {
        // A loop with our selector spins by itself, and one that is not fed by our selector comes too late to be met.
        if inbox.spins() || runner.feeder() != Feeder::Selector {
            return runner.post(py, job).map(|()| Started::Waits).map_err(|refused| refused.0);
        }
        let mut refused = None;
        self.meeting.expect();
        let send = || {
            runner.caller_cpu.store(current_cpu(), Relaxed);
            refused = runner.send(job).err();
        };
        inbox.spin(py, runner.loop_cpu.load(Relaxed), send, || self.meeting.is_met());
        let is_met = self.meeting.leave();
        match refused {
            Some(SendError(job)) => Err(job),
            None if is_met => Ok(Started::Met),
            None => Ok(Started::Waits),
        }
    }

    /// The task does not wait any more. Returns what it waited for.
    fn leave(&self) -> Option<(Arc<Call>, Arc<Runner>)> {
        let left = take(&self.under_way)?;
        left.0.lose_receiver();
        self.hold.shared().terms.stats.ended.add(1);
        drop(take(&self.notice));
        Some(left)
    }

    /// The same for a call that has not ended.
    fn abandon(&self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        drop(take(&self.carried));
        if let Some((call, _)) = self.leave() {
            call.leave_alone(py, waited_for_cleanup);
        }
        drop(take(&self.outcome));
    }
}

fn tell(py: Python<'_>, call: &Arc<Call>, runner: &Arc<Runner>) {
    call.begin_cancelling();
    // A runner that takes no more mail is ending, and cancels all its tasks.
    let _ = runner.post(py, Job::Cancel(Arc::clone(call)));
}

impl Operation for Remote {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started> {
        let shared = self.hold.shared();
        let (Some(mut target), Some(me)) = (take(&self.target), self.me.upgrade()) else { return Ok(Started::Waits) };
        let inbox = self.inbox.get_or_init(|| inbox);
        let known: Weak<Self> = Weak::clone(&self.me);
        inbox.tell_of_end(known);
        loop {
            let (ready, runner) = target.with(py, shared.runner_for_others(py))?;
            let (ready, carried) = ready.with(py, Carried::fresh(py))?;
            let call = runner.new_call(Taker::task(Arc::<Self>::clone(&me), &runner.outbox), &shared.terms.stats);
            runner.tell_of_end(&call);
            let job = Job::Start(Arc::clone(&call), ready, RunIn::Task(carried.context(py)));
            drop(replace(&self.under_way, Some((call, Arc::clone(&runner)))));
            drop(replace(&self.carried, Some(carried)));
            match self.send(py, &runner, inbox, job) {
                Ok(started) => return Ok(started),
                // The runner has ended after it was found. There is another one, or an error.
                Err(job) => {
                    self.leave();
                    let Job::Start(_, returned, _) = job else { return Err(errors::shutting_down()) };
                    target = returned;
                }
            }
        }
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(outcome) = take(&self.outcome) else {
            // The time for its cleanup is over.
            self.abandon(py, Some(self.hold.shared().cleanup));
            return Err(cancelled_error(py));
        };
        self.leave();
        let carried = take(&self.carried).filter(|_| self.hold.shared().terms.shares_context);
        carried.map_or(Ok(()), |carried| carried.write_back(py, false))?;
        outcome.into_result()
    }

    fn cancel(&self, py: Python<'_>) {
        if let Some((call, runner)) = &*lock(&self.under_way)
            && !self.is_told.swap(true, Relaxed)
        {
            tell(py, call, runner);
        }
        self.abandon(py, None);
    }

    fn has_ended(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn tell(&self, py: Python<'_>) -> Option<Duration> {
        let (call, runner) = lock(&self.under_way).clone()?;
        if self.has_ended() {
            return None;
        }
        if !self.is_told.swap(true, Relaxed) {
            tell(py, &call, &runner);
        }
        Some(self.hold.shared().cleanup)
    }
}

impl Receiver for Remote {
    fn receive(self: Arc<Self>, py: Python<'_>, outcome: Outcome) {
        drop(replace(&self.outcome, Some(outcome)));
        let Some(inbox) = self.inbox.get().map(Arc::clone) else { return };
        let notice = if self.meeting.is_expected() {
            Some(Notice::Meeting(Arc::clone(&self.meeting), inbox, Arc::<Self>::clone(&self)))
        } else {
            inbox.put(py, Arc::<Self>::clone(&self)).and_then(|notice| notice.prepare(py))
        };
        drop(replace(&self.notice, notice));
    }
}

impl Publish for Remote {
    fn publish(&self) {
        // It stays here, to be dropped by whoever is attached (2).
        let unsent = lock(&self.notice).as_mut().and_then(Notice::send);
        if let Some(notice) = unsent {
            Python::try_attach(|py| notice.send_now(py));
        }
    }
}

impl Arrival for Remote {
    fn arrive(&self, py: Python<'_>) {
        self.waker.wake(py);
    }

    /// The task's loop is gone, and with it the task.
    fn be_lost(&self, py: Python<'_>) {
        self.cancel(py);
    }
}

impl Shared {
    /// What the task of another loop awaits to have the async function run on the bridge's loop. On that loop itself it
    /// is what the function returns.
    pub fn run_async(self: &Arc<Self>, py: Python<'_>, hold: &Arc<Hold>, target: Target) -> PyResult<Py<PyAny>> {
        let (target, is_here) = target.with(py, self.has_running_loop(py))?;
        if is_here {
            return target.begin(py);
        }
        Ok(Bound::new(py, Pending::new(Remote::new(hold, target)))?.into_any().unbind())
    }

    /// Whether the loop that runs here is one of this bridge's, whose tasks can await the coroutine as they are.
    fn has_running_loop(&self, py: Python<'_>) -> PyResult<bool> {
        self.refuse_if_closed(py)?;
        let Some(current) = current_runner().filter(|current| current.bridge_id == self.terms.bridge) else {
            return Ok(false);
        };
        let running = names::running_loop(py)?;
        Ok(self.terms.shares_context
            && running.is_some_and(|running| current.event_loop(py).is_some_and(|own| own.is(&running))))
    }
}
