//! Where the steps of one dual object are made: in a session on one of the bridge's loops, or in the task that asks for
//! them.

use crate::bridge::blocking::Blocking;
use crate::bridge::caller_loop::CallerLoop;
use crate::bridge::last_loop::LastLoop;
use crate::bridge::placement::Place;
use crate::bridge::shared::{InLoop, Shared};
use crate::call::state::Call;
use crate::coroutine::target::Target;
use crate::python::context::{self, Carried};
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::python::surroundings;
use crate::python::threads::thread_key;
use crate::runner::moving;
use crate::runner::state::{Job, Runner, current_runner};
use crate::switch::nest;
use crate::switch::strand::Strand;
use crate::task::closer::Closer;
use crate::task::session::Session;
use crate::task::start::RunIn;
use crate::worker::awaiting::Pending;
use crate::worker::behind;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use std::sync::{Arc, Weak};
use syncline_core::sync::{Mutex, take};
use syncline_core::waits::Awaiting;

pub struct Binding {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    site: Site,
    thread: u64,
    /// What it has begun on its loop goes on between two steps, too, and its user may wait for that.
    _awaiting: [Option<Awaiting>; 2],
}

/// Whose task makes the steps.
enum Site {
    /// The session's task, on this runner.
    Runner(Arc<Runner>),
    /// The session's task, on the thread's own loop. At the interpreter's end that may be one which ends with the last
    /// that uses it.
    Own { own: Arc<CallerLoop>, last: Mutex<Option<Arc<LastLoop>>> },
    /// The task that asks for the step. Sync code in a task has asked for the first one; all steps are made in sync
    /// code of tasks of that loop, and await in place. The session lends its context only.
    Here { opener: Weak<Strand>, epoch: u32 },
}

fn not_here() -> PyErr {
    PyRuntimeError::new_err(
        "it was begun by sync code in a task of an event loop, which runs it; go on there, in sync code of a task of that \
         loop",
    )
}

/// Whether more steps follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Inner,
    Last,
}

impl Binding {
    /// Chooses the place. `generator` is the native async generator whose end ends the session, if there is one.
    pub fn open(
        py: Python<'_>,
        shared: Arc<Shared>,
        generator: Option<Py<PyWeakrefReference>>,
        closer: Closer,
    ) -> PyResult<Self> {
        let site = match shared.place_on_loop(py, shared.patience(None))? {
            Place::InTask(strand) => {
                let session = Session::new(py, context::copy(py)?, None, generator);
                let site = Site::Here { opener: Arc::downgrade(&strand), epoch: process::epoch() };
                return Ok(Self { shared, session, site, thread: thread_key(), _awaiting: [None, None] });
            }
            Place::Runner(runner) => Site::Runner(runner),
            Place::Away(_) => Site::Runner(shared.runner_for_others(py)?),
            Place::Own(own) => Site::Own { own, last: Mutex::default() },
            Place::Inline(_) if names::running_loop(py)?.is_none() => {
                let last = shared.last_loop(py)?;
                Site::Own { own: Arc::clone(&last.own), last: Mutex::new(Some(last)) }
            }
            Place::Inline(_) | Place::Sender(..) => return Err(errors::shutting_down()),
        };
        Self::at(py, shared, site, generator, closer)
    }

    /// The same for a task of another loop, which awaits the steps.
    pub fn open_at_home(
        py: Python<'_>,
        shared: Arc<Shared>,
        generator: Option<Py<PyWeakrefReference>>,
        closer: Closer,
    ) -> PyResult<Self> {
        let site = Site::Runner(shared.runner_for_others(py)?);
        Self::at(py, shared, site, generator, closer)
    }

    fn at(
        py: Python<'_>,
        shared: Arc<Shared>,
        site: Site,
        generator: Option<Py<PyWeakrefReference>>,
        closer: Closer,
    ) -> PyResult<Self> {
        let context = context::copy(py)?;
        let (spare, awaiting) = match &site {
            Site::Runner(runner) => (runner.spare.get(py), behind::may_wait_for(py, runner)?),
            Site::Own { own, .. } => (Some(&own.spare), [None, None]),
            Site::Here { .. } => (None, [None, None]),
        };
        let lent = spare.and_then(|spare| spare.sessions.lend(context.bind(py)));
        let (context, lent) = lent.map_or((context, None), |(context, lent)| (context, Some(lent)));
        let session = Session::new(py, context, lent, generator);
        session.on_shutdown(closer);
        Ok(Self { shared, session, site, thread: thread_key(), _awaiting: awaiting })
    }

    /// What a task of another loop awaits to have a step made.
    pub fn step_at_home(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Pending> {
        let (target, ()) = target.with(py, self.check(py))?;
        match &self.site {
            Site::Runner(runner) => Ok(self.remote_step(self.home(runner), target, position)),
            Site::Own { .. } | Site::Here { .. } => Err(self.refused(py)),
        }
    }

    /// Ends the session by its closer, after the step that may be under way.
    pub fn end_by_closer(&self, py: Python<'_>) {
        self.end_by(py, Session::end_by_closer);
    }

    /// Makes a step and waits for it. What it changes in context variables the caller sees, where the bridge shares
    /// them.
    pub fn step(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Py<PyAny>> {
        if !self.shared.is_plain() {
            return self.step_observed(py, target, position);
        }
        let looked = self.check_site(py).and_then(|()| self.look_at_loop_here(py));
        let (target, ()) = target.with(py, looked)?;
        self.make_step(py, target, position)
    }

    /// Warns, or raises, if a step would block a loop of somebody else's that runs here, and the user wants to know.
    pub fn look_at_loop_here(&self, py: Python<'_>) -> PyResult<()> {
        match &self.site {
            _ if self.shared.in_loop == InLoop::Block => Ok(()),
            Site::Here { .. } => Ok(()),
            Site::Runner(_) if self.shared.task_to_park(py).is_some() => Ok(()),
            Site::Runner(_) | Site::Own { .. } => self.shared.look_at_loop_here(py),
        }
    }

    #[cold]
    fn step_observed(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Py<PyAny>> {
        let looked = self.check(py).and_then(|()| self.look_at_loop_here(py));
        let (target, ()) = target.with(py, looked)?;
        let is_hop = matches!(&self.site, Site::Runner(_));
        let blocks = !matches!(&self.site, Site::Here { .. }) && (!is_hop || self.shared.task_to_park(py).is_none());
        let object = target.object(py).clone();
        self.shared.observed_step(&object, blocks, is_hop, || self.make_step(py, target, position))
    }

    fn make_step(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Py<PyAny>> {
        let place = match &self.site {
            Site::Runner(first) => {
                let runner = self.home(first);
                if let Some(strand) = self.shared.task_to_park(py) {
                    let remote = Bound::new(py, self.remote_step(runner, target, position))?.into_any().unbind();
                    return nest::run_without_bridge(py, &strand, Target::Awaitable(remote), None);
                }
                Place::Runner(Arc::clone(runner))
            }
            Site::Own { own, .. } => Place::Own(Arc::clone(own)),
            Site::Here { .. } => return self.step_here(py, target, position),
        };
        let carried = Carried::of(self.session.context.bind(py), &self.session.unset)?;
        let run_in = RunIn::Session { session: Arc::clone(&self.session), is_last: position == Position::Last };
        let result = match self.shared.execute_at(py, &place, target, run_in, self.shared.patience(None)) {
            Ok(heard) => heard.result,
            Err((target, _)) => return self.make_step_elsewhere(py, target, position),
        };
        let written = if self.shared.terms.shares_context { carried.write_back(py, false) } else { Ok(()) };
        signals::check(py)?;
        written?;
        if position == Position::Last || self.session.is_ending() {
            self.leave(py);
        }
        result
    }

    /// The loop takes no more calls. A session that has not begun goes to the bridge's next one.
    fn make_step_elsewhere(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Py<PyAny>> {
        if !self.session.is_movable() {
            target.discard(py);
            return Err(self.refused(py));
        }
        let (target, place) = target.with(py, self.shared.place_on_loop(py, self.shared.patience(None)))?;
        let Place::Runner(to) = place else {
            target.discard(py);
            return Err(self.refused(py));
        };
        self.session.move_to(py, Box::new(to));
        self.make_step(py, target, position)
    }

    fn remote_step(&self, runner: &Arc<Runner>, target: Target, position: Position) -> Pending {
        self.shared.remote_step(runner, &self.session, target, position == Position::Last)
    }

    fn step_here(&self, py: Python<'_>, target: Target, position: Position) -> PyResult<Py<PyAny>> {
        let Some(strand) = nest::strand_for(py, &self.shared.terms) else {
            target.discard(py);
            return Err(not_here());
        };
        let result = nest::run_in(py, &self.shared.terms, &strand, target, self.session.context.bind(py));
        let is_over = result.as_ref().is_err_and(|error| self.session.is_over_by(py, error));
        if is_over || position == Position::Last {
            self.session.end(py)?;
        }
        result
    }

    /// Ends the session, in which nothing is left to do.
    pub fn end(&self, py: Python<'_>) {
        self.end_by(py, Session::end);
    }

    fn end_by(&self, py: Python<'_>, end: impl Fn(&Session, Python<'_>) -> PyResult<()> + Send + Sync + 'static) {
        let session = Arc::clone(&self.session);
        match &self.site {
            Site::Runner(runner) => {
                // If the runner takes no more mail, it is ending, and ends its sessions itself.
                let _ = self.home(runner).post(py, Job::Do(Box::new(move |py| end(&session, py))));
            }
            Site::Own { .. } | Site::Here { .. } => {
                if let Err(error) = end(&session, py) {
                    error.write_unraisable(py, None);
                }
            }
        }
        self.leave(py);
    }

    /// Ends the session as it is: what it has open is forgotten.
    pub fn give_up(&self, py: Python<'_>) {
        // Another thread's own loop can't be touched from here, and keeps it until it ends.
        if self.is_own_thread() || self.runner().is_some() {
            self.end(py);
        }
    }

    /// Starts the last step without waiting for it. Its error, if it raises one, is logged.
    pub fn end_with(&self, py: Python<'_>, target: Target) {
        let runner = match &self.site {
            Site::Runner(runner) => self.home(runner),
            Site::Own { .. } => return self.leave_to_loop(target),
            Site::Here { .. } => return nest::close_later(py, &self.shared.terms, target, &self.session.context),
        };
        let call = Call::for_nobody(&runner.name);
        let run_in = RunIn::Session { session: Arc::clone(&self.session), is_last: true };
        if let Err(refused) = runner.post(py, Job::Start(call, target, run_in))
            && let Job::Start(_, target, _) = refused.0
        {
            self.leave_to_loop(target);
        }
    }

    /// Leaves the last step to the end of the loop. For where this thread can't have it made earlier.
    pub fn leave_to_loop(&self, target: Target) {
        self.session.on_shutdown(Closer::Last(target));
    }

    /// Waits by `wait` for the call, of something that the session's runner does, unless the runner waits for this thread.
    pub fn wait<T>(
        &self,
        py: Python<'_>,
        runner: &Arc<Runner>,
        call: &Call,
        wait: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        self.shared.look_at_loop_here(py)?;
        let current = current_runner();
        let blocking = current.as_ref().map(|current| Blocking::begin(py, &current.node, &runner.node)).transpose()?;
        if blocking.as_ref().is_some_and(Blocking::closes_circle) {
            return Err(self.refused(py));
        }
        current.iter().for_each(|current| moving::note_blocking(call, &current.node, runner));
        wait()
    }

    /// Whether a step is under way that nobody waits for any more: what is to follow can't be waited for either.
    pub fn was_left(&self) -> bool {
        self.session.current_call().is_some_and(|call| call.is_abandoned())
    }

    /// Whether the loop still makes steps, for whichever thread.
    pub fn can_go_on(&self) -> bool {
        self.is_of_this_process()
            && !self.shared.is_closed()
            && match &self.site {
                Site::Runner(runner) => self.home(runner).takes_calls(),
                Site::Own { own, .. } => own.takes_calls(),
                Site::Here { .. } => true,
            }
    }

    /// Whether this thread can have a step made and wait for it, without an error and without blocking a loop. For the
    /// step that closes an object which is dropped.
    pub fn can_wait(&self, py: Python<'_>) -> bool {
        let is_free = || signals::ask(py, || Ok(!surroundings::in_event_loop(py)?));
        match &self.site {
            Site::Runner(first) => {
                let (runner, current) = (self.home(first), current_runner());
                // A thread whose loop was blocked by each step may be blocked by the last one, too; unless that is not
                // wanted.
                let may_wait = (self.is_own_thread() && self.shared.in_loop == InLoop::Block) || is_free();
                runner.takes_calls() && may_wait && !current.is_some_and(|here| runner.node.leads_to(&here.node))
            }
            Site::Own { own, .. } => self.is_own_thread() && !own.is_busy() && own.takes_calls() && is_free(),
            Site::Here { opener, .. } => {
                // Only the task that began it. In another task it would be closed in the middle of what that one is
                // doing.
                let current = nest::strand_for(py, &self.shared.terms);
                current.is_some_and(|current| current.can_nest() && std::ptr::eq(opener.as_ptr(), &*current))
            }
        }
    }

    /// Whether the session was made in this process: a forked child must leave it alone.
    pub fn is_of_this_process(&self) -> bool {
        let epoch = match &self.site {
            Site::Runner(runner) => runner.epoch,
            Site::Own { own, .. } => own.epoch,
            Site::Here { epoch, .. } => *epoch,
        };
        epoch == process::epoch()
    }

    pub fn runner(&self) -> Option<&Arc<Runner>> {
        match &self.site {
            Site::Runner(runner) => Some(self.home(runner)),
            Site::Own { .. } | Site::Here { .. } => None,
        }
    }

    /// The session's runner: it may have gone to another one than the first before its first step.
    fn home<'a>(&'a self, first: &'a Arc<Runner>) -> &'a Arc<Runner> {
        moving::home_of(&self.session, first)
    }

    fn leave(&self, py: Python<'_>) {
        if let Site::Own { last, .. } = &self.site
            && let Some(Err(error)) = take(last).map(|last| last.leave(py))
        {
            signals::keep_and_pass_on(py, error);
        }
    }

    fn is_own_thread(&self) -> bool {
        self.thread == thread_key()
    }

    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.shared.is_closed() && self.is_of_this_process() {
            self.end_with_its_loop(py);
            return Err(process::refused(py, || errors::bridge_closed(py, &self.shared.name)));
        }
        self.check_site(py)
    }

    /// The same where the bridge is open.
    fn check_site(&self, py: Python<'_>) -> PyResult<()> {
        self.can_make_steps(py).map_err(|error| process::refused(py, || error))
    }

    fn can_make_steps(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_of_this_process() {
            return Err(errors::runner_closed(
                py,
                "it was begun in the process that this one was forked from, whose loop has it; begin a new one here"
                    .to_owned(),
            ));
        }
        match &self.site {
            Site::Runner(runner) if !self.home(runner).takes_calls() => Err(errors::closed_meanwhile(py, &runner.name)),
            Site::Runner(_) => Ok(()),
            Site::Own { own, .. } => self.check_own(py, own),
            Site::Here { .. } if self.is_own_thread() && nest::strand_for(py, &self.shared.terms).is_some() => Ok(()),
            Site::Here { .. } => Err(not_here()),
        }
    }

    fn check_own(&self, py: Python<'_>, own: &CallerLoop) -> PyResult<()> {
        if !self.is_own_thread() {
            return Err(PyRuntimeError::new_err(
                "in scope \"caller\" it belongs to the thread that began it, whose loop runs it; go on there, or use \
                 scope \"process\"",
            ));
        }
        if own.is_busy() {
            return Err(PyRuntimeError::new_err(
                "in scope \"caller\" its loop is driven by the very call that this step is made in; await it there, or \
                 use scope \"process\"",
            ));
        }
        if own.takes_calls() {
            return Ok(());
        }
        own.close_if_told(py);
        Err(errors::closed_meanwhile(py, &own.name))
    }

    /// Ends this thread's own loop, with what is open there, if the bridge was closed by another thread, which could
    /// not do that. For an object that needs no more steps.
    pub fn end_with_its_loop(&self, py: Python<'_>) {
        if let Site::Own { own, .. } = &self.site
            && self.is_of_this_process()
            && self.is_own_thread()
        {
            own.close_if_told(py);
        }
    }

    fn refused(&self, py: Python<'_>) -> PyErr {
        process::refused(py, || match &self.site {
            Site::Runner(runner) if self.home(runner).takes_calls() => errors::deadlock(
                py,
                format!(
                    "sync code that the runner {:?} waits for went on with something that this very runner runs; go on \
                     with it in async code there (`async for`, `async with`)",
                    runner.name
                ),
            ),
            _ => errors::closed_meanwhile(py, &self.shared.name),
        })
    }
}
