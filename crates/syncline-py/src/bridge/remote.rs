//! What runs on the bridge's loop and is awaited by a task of another loop, without a thread in between: a call of
//! `run_async`, a step of an object that is at home there, a call of sync code whose task is parked meanwhile.
//!
//! The task waits as for a worker thread: the outcome comes home to its loop's inbox.
//!
//! Invariants:
//! 1. Call and operation refer to each other until the call is settled or the task stops waiting. Whichever comes first
//!    opens the ring.
//! 2. An operation that has ended has no Python objects any more: the outbox may drop its last reference detached.

use super::loops_of_thread;
use super::shared::{Hold, InAsync, Shared};
use crate::call::caller::expect_call;
use crate::call::outcome::{Outcome, cancelled_error};
use crate::call::state::Call;
use crate::call::stepping::stepped_call;
use crate::call::taker::{Receiver, Taker};
use crate::call::waiting_tasks;
use crate::coroutine::target::Target;
use crate::python::context::Carried;
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings::{Backend, is_in_trio_task};
use crate::runner::arrival::Arrival;
use crate::runner::moving::{home_of, is_blocking, moved_to};
use crate::runner::state::{Job, Runner, current_runner};
use crate::switch::stepper::current_task;
use crate::task::loop_cleanup::call_of;
use crate::task::session::Session;
use crate::task::start::RunIn;
use crate::worker::awaiting::{Operation, Pending, SeenOperation, Started, Waker};
use crate::worker::behind;
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
use syncline_core::waits::Awaiting;

/// In which task it runs.
enum RunsIn {
    /// One of its own, on whichever runner the bridge has for it.
    NewTask,
    /// That of a session, on its runner; it may be the session's last step.
    Session { runner: Arc<Runner>, session: Arc<Session>, is_last: bool },
    /// None: it goes on there by itself, and only its end is awaited.
    GoesOn(Arc<dyn GoesOn>),
}

/// What goes on on a loop of the bridge, by itself.
pub trait GoesOn: Send + Sync {
    fn runner(&self) -> PyResult<&Arc<Runner>>;
    /// Has the call settled when there is a result. False if there is one already.
    fn wait_by(&self, py: Python<'_>, call: &Arc<Call>) -> bool;
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

/// A call and where it runs.
struct AwaitedCall {
    call: Arc<Call>,
    runner: Arc<Runner>,
    /// For placement, where the task's loop is one that calls are sent to.
    _awaiting: [Option<Awaiting>; 2],
}

pub struct Remote {
    me: Weak<Remote>,
    shared: Arc<Shared>,
    /// Keeps the bridge's loops alive until it ends, where the bridge itself may be forgotten meanwhile.
    keeps: Mutex<Option<Arc<Hold>>>,
    /// What is to run, until it is awaited.
    target: Mutex<Option<Target>>,
    runs_in: RunsIn,
    /// While the task waits for the call (1).
    under_way: Mutex<Option<AwaitedCall>>,
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
    fn pending(shared: &Arc<Shared>, keeps: Option<&Arc<Hold>>, target: Option<Target>, runs_in: RunsIn) -> Pending {
        Pending::new(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared: Arc::clone(shared),
            keeps: Mutex::new(keeps.map(Arc::clone)),
            target: Mutex::new(target),
            runs_in,
            under_way: Mutex::new(None),
            carried: Mutex::new(None),
            outcome: Mutex::new(None),
            is_told: AtomicBool::new(false),
            waker: Waker::default(),
            inbox: OnceLock::new(),
            meeting: Arc::default(),
            notice: Mutex::new(None),
        }))
    }

    /// The runner, and what the call takes along.
    fn prepare(&self, py: Python<'_>) -> PyResult<(Arc<Runner>, Carried, RunIn)> {
        match &self.runs_in {
            RunsIn::NewTask => {
                let (runner, carried) = (self.shared.runner_for_others(py)?, Carried::fresh(py)?);
                let carried = if runner.attached.is_some() { expect_call(py, carried)? } else { carried };
                let run_in = RunIn::Task(carried.context(py));
                Ok((runner, carried, run_in))
            }
            RunsIn::Session { runner, session, is_last } => {
                let runner = home_of(session, runner);
                if !runner.takes_calls() {
                    return Err(errors::closed_meanwhile(py, &runner.name));
                }
                let carried = Carried::of(session.context.bind(py), &session.unset)?;
                let run_in = RunIn::Session { session: Arc::clone(session), is_last: *is_last };
                Ok((Arc::clone(runner), carried, run_in))
            }
            RunsIn::GoesOn(_) => Err(errors::shutting_down()),
        }
    }

    fn wait_for(&self, py: Python<'_>, me: Arc<Self>, what: &dyn GoesOn) -> PyResult<Started> {
        let runner = what.runner()?;
        let call = runner.new_call(Taker::task(me), &self.shared.terms.stats);
        runner.tell_of_end(py, &call)?;
        self.note_call(py, &call, runner)?;
        if what.wait_by(py, &call) {
            return Ok(Started::Waits);
        }
        drop(replace(&self.outcome, Some(Outcome::Returned(py.None()))));
        Ok(Started::Over)
    }

    /// Sends the call to its loop. Gives the job back if that takes no more.
    fn send(&self, py: Python<'_>, runner: &Arc<Runner>, inbox: &Inbox, job: Job) -> Result<Started, Job> {
        // A loop that spins does so by itself, and one that is fed by callbacks comes too late to be met.
        if inbox.spins() || !runner.feeder().spins() {
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
    fn leave(&self) -> Option<Arc<Call>> {
        let call = self.forget_call();
        drop((take(&self.notice), take(&self.keeps)));
        call
    }

    fn forget_call(&self) -> Option<Arc<Call>> {
        let AwaitedCall { call, .. } = take(&self.under_way)?;
        call.lose_receiver();
        self.shared.terms.stats.ended.add(1);
        Some(call)
    }

    /// The same for a call that has not ended.
    fn abandon(&self, py: Python<'_>, waited_for_cleanup: Option<Duration>) {
        drop(take(&self.carried));
        if let Some(call) = self.leave() {
            call.leave_alone(py, waited_for_cleanup);
        }
        drop(take(&self.outcome));
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // The task was cancelled before it began to wait. (What has begun has no target any more, as 2 wants it.)
        if let Some(target) = take(&self.target) {
            errors::in_destructor(|py| target.discard(py));
        }
    }
}

impl Operation for Remote {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started> {
        let Some(me) = self.me.upgrade() else { return Ok(Started::Waits) };
        let inbox = self.inbox.get_or_init(|| inbox);
        let known: Weak<Self> = Weak::clone(&self.me);
        inbox.tell_of_end(known);
        if let RunsIn::GoesOn(what) = &self.runs_in {
            return self.wait_for(py, me, &**what);
        }
        let Some(mut target) = take(&self.target) else { return Ok(Started::Waits) };
        loop {
            let prepared = self.prepare(py).map_err(|error| of_exit(py, error));
            let (ready, (runner, carried, run_in)) = target.with(py, prepared)?;
            let (ready, ()) = ready.with(py, refuse_if_it_waits_for_this(py, &runner))?;
            let taker = Taker::task(Arc::<Self>::clone(&me));
            let call = runner.new_call(taker, &self.shared.terms.stats);
            let (ready, ()) = ready.with(py, runner.tell_of_end(py, &call))?;
            if self.shared.is_visible {
                waiting_tasks::note_call(py, &call);
            }
            let (ready, ()) = ready.with(py, self.note_call(py, &call, &runner))?;
            let (ready, ()) = ready.with(py, self.shared.note_origin(py, &call))?;
            let job = Job::Start(Arc::clone(&call), ready, run_in);
            drop(replace(&self.carried, Some(carried)));
            match self.send(py, &runner, inbox, job) {
                Ok(started) => {
                    if let Err(error) = runner.move_calls(py) {
                        signals::keep_unless_exception(py, error);
                    }
                    return Ok(started);
                }
                // The runner has ended after it was found. There is another one, or an error.
                Err(job) => {
                    self.forget_call();
                    let Job::Start(_, returned, _) = job else { return Err(errors::shutting_down()) };
                    target = returned;
                }
            }
        }
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(outcome) = take(&self.outcome) else {
            // The time for its cleanup is over.
            self.abandon(py, Some(self.shared.cleanup));
            return Err(cancelled_error(py));
        };
        self.leave();
        let carried = take(&self.carried).filter(|_| self.shared.terms.shares_context);
        carried.map_or(Ok(()), |carried| carried.write_back(py, false))?;
        let result = outcome.arrive(py).map_err(|error| of_exit(py, error))?;
        if let RunsIn::GoesOn(what) = &self.runs_in { what.result(py) } else { Ok(result) }
    }

    fn cancel(&self, py: Python<'_>) {
        // What goes on by itself is ended by whoever has it, once.
        if !matches!(self.runs_in, RunsIn::GoesOn(_))
            && let Some((call, runner)) = self.call_under_way()
        {
            self.ask_to_end(py, &call, &runner);
        }
        self.abandon(py, None);
    }

    fn has_ended(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn tell(&self, py: Python<'_>) -> Option<Duration> {
        let (call, runner) = self.call_under_way()?;
        if self.has_ended() {
            return None;
        }
        self.ask_to_end(py, &call, &runner);
        Some(self.shared.cleanup)
    }

    fn was_told_in_vain(&self) -> bool {
        // What goes on by itself is never told.
        matches!(self.runs_in, RunsIn::GoesOn(_))
            || self.call_under_way().is_some_and(|(call, runner)| runner.was_asked_in_vain(&call))
    }

    fn seen(&self, py: Python<'_>) -> SeenOperation {
        let Some((call, sent_to)) = self.call_under_way() else { return SeenOperation::Nothing("nothing") };
        let runner = moved_to(&call).unwrap_or(sent_to);
        let task = call.task(py).map(Bound::unbind);
        SeenOperation::Call("call", runner.name.to_string(), runner.thread_id(), task)
    }
}

impl Remote {
    fn note_call(&self, py: Python<'_>, call: &Arc<Call>, runner: &Arc<Runner>) -> PyResult<()> {
        let awaiting = behind::may_wait_for(py, runner)?;
        let under_way = AwaitedCall { call: Arc::clone(call), runner: Arc::clone(runner), _awaiting: awaiting };
        drop(replace(&self.under_way, Some(under_way)));
        Ok(())
    }

    /// Asks the call to end, once.
    fn ask_to_end(&self, py: Python<'_>, call: &Arc<Call>, runner: &Arc<Runner>) {
        if !self.is_told.swap(true, Relaxed) {
            runner.ask_to_cancel(py, call);
        }
    }

    fn call_under_way(&self) -> Option<(Arc<Call>, Arc<Runner>)> {
        lock(&self.under_way).as_ref().map(|under_way| (Arc::clone(&under_way.call), Arc::clone(&under_way.runner)))
    }
}

/// What the exit refuses or cuts short ends a daemon thread quietly, as where it waits itself.
fn of_exit(py: Python<'_>, error: PyErr) -> PyErr {
    if process::has_refused(py, &error) { process::refused(py, || error) } else { error }
}

/// Raises DeadlockError if the thread of that loop, which is somebody else's, waits for the very task that would wait for
/// the loop. What that task has only started is not judged: it may be able to wait.
fn refuse_if_it_waits_for_this(py: Python<'_>, runner: &Runner) -> PyResult<()> {
    if runner.attached.is_none() {
        return Ok(());
    }
    let Some(call) = stepped_call().filter(|call| is_blocking(call, &runner.node)) else { return Ok(()) };
    let is_its_own = current_task(py).and_then(|task| call_of(&task)).is_some_and(|own| Arc::ptr_eq(&own, &call));
    if !is_its_own {
        return Ok(());
    }
    let stack: String = names::stack_of(py)?.call1((runner.thread_id(),))?.extract()?;
    let message = format!(
        "a coroutine calls the loop that the bridge {:?} is onto, and that loop's thread waits for this very coroutine; \
         await the coroutine there, instead of calling it from sync code\nthe loop's thread:\n{stack}",
        &*runner.name
    );
    Err(errors::deadlock(py, message))
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
        self.waker.forget(py);
    }
}

impl Shared {
    /// What the task of another loop awaits to have the async function run on the bridge's loop. On that loop itself it
    /// is what the function returns; so it is where the interpreter exits and there can be no other loop.
    pub fn run_async(self: &Arc<Self>, py: Python<'_>, hold: &Arc<Hold>, target: Target) -> PyResult<Py<PyAny>> {
        let (target, is_here) = target.with(py, self.has_running_loop(py))?;
        let (target, is_left) = target.with(py, if is_here { Ok(false) } else { self.is_left_to_tasks(py) })?;
        if (is_here || is_left) && self.terms.shares_context {
            return target.begin(py);
        }
        let remote = Remote::pending(self, Some(hold), Some(target), RunsIn::NewTask);
        Ok(Bound::new(py, remote)?.into_any().unbind())
    }

    /// What a task of another loop awaits to have the target run on the bridge's loop, while the bridge is held by
    /// somebody else.
    pub fn remote(self: &Arc<Self>, target: Target) -> Pending {
        Remote::pending(self, None, Some(target), RunsIn::NewTask)
    }

    /// The same for a step of that session.
    pub fn remote_step(
        self: &Arc<Self>,
        runner: &Arc<Runner>,
        session: &Arc<Session>,
        target: Target,
        is_last: bool,
    ) -> Pending {
        let (runner, session) = (Arc::clone(runner), Arc::clone(session));
        Remote::pending(self, None, Some(target), RunsIn::Session { runner, session, is_last })
    }

    /// What a task of another loop awaits for the result of something that goes on on the bridge's loop by itself.
    pub fn remote_result(self: &Arc<Self>, what: Arc<dyn GoesOn>) -> Pending {
        Remote::pending(self, None, None, RunsIn::GoesOn(what))
    }

    /// Whether what async code uses just here is brought to the bridge's loop, which is another one.
    pub fn brings_home(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.in_async == InAsync::Home && !self.has_running_loop(py)?)
    }

    /// Whether the loop that runs here is one of this bridge's, whose tasks can await the coroutine as they are.
    fn has_running_loop(&self, py: Python<'_>) -> PyResult<bool> {
        self.refuse_if_closed(py)?;
        if self.terms.is_onto_this(py) {
            return Ok(true);
        }
        let current = current_runner().filter(|current| current.bridge_id == self.terms.bridge);
        if current.is_some() && self.terms.backend == Backend::Trio {
            return is_in_trio_task(py);
        }
        let Some(running) = names::running_loop(py)? else { return Ok(false) };
        Ok(match current {
            Some(current) => current.event_loop(py).is_some_and(|own| own.is(&running)),
            None => loops_of_thread::known(self).is_some_and(|own| own.is(&running)),
        })
    }
}
