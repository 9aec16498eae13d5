//! A runner whose loop somebody else runs: `Bridge(loop=...)`.
//!
//! It has no thread of its own. Mail comes by a callback, as for other loops without our selector, and the loop is
//! neither started nor stopped nor closed here.
//!
//! Invariants:
//! 1. It ends once: when it is detached, after the cleanup of what runs there, or when its loop is gone. From then on
//!    it takes no mail, and all calls are settled or given up.
//! 2. Whoever waits finds out by itself that the loop is gone (`health`): nobody else may tell.

use super::arrival::Arrival;
use super::nodes;
use super::stalls;
use super::state::{Attached, Feeder, Job, Plan, Runner};
use super::watched;
use crate::call::home::LoopOfOthers;
use crate::call::state::Call;
use crate::python::errors;
use crate::python::log;
use crate::python::long_waits::Movable;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::process;
use crate::python::residents;
use crate::python::signals;
use crate::python::surroundings::{Anchor, Backend};
use crate::task::session::Session;
use crate::task::start::RunIn;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};
use syncline_core::weak_list::WeakList;

/// How often a loop that is detached looks whether what ran there has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often a wait looks whether a loop is about to be closed.
const MOST_LOOKS: u32 = 20;
/// How long a loop may stand before whoever waits for it gives up: somebody may be about to run it.
const LONGEST_STAND: Duration = Duration::from_secs(1);

impl Runner {
    /// A runner onto that loop.
    pub fn attach(py: Python<'_>, plan: &Plan, event_loop: Bound<'_, PyAny>, anchor: &Anchor) -> PyResult<Arc<Self>> {
        // Where it does not run here, an asyncio loop that runs knows its thread; else the first mail will tell.
        let thread_id =
            if anchor.runs_here(py) { names::thread_ident(py)? } else { thread_of(&event_loop).unwrap_or(0) };
        let attached = Attached {
            anchor: anchor.object.clone_ref(py),
            calls: WeakList::default(),
            is_watched: AtomicBool::new(false),
            sessions: WeakList::default(),
            has_run: AtomicBool::new(thread_id != 0),
            stands_since: Mutex::default(),
            guard: Once::new(),
        };
        let runner = Self::make(
            py,
            plan,
            &nodes::of_loop(anchor.object.bind(py)).unwrap_or_default(),
            Some(Feeder::Callback),
            Some(attached),
        )?;
        runner.thread_id.store(thread_id, Relaxed);
        runner.event_loop.set(py, event_loop.unbind());
        runner.note_begun();
        runner.mailbox.park();
        let resident: Weak<Self> = Arc::downgrade(&runner);
        residents::show_attached(resident, py);
        nodes::remember_attached(&runner);
        watched::watch(py, &runner, plan.stall_after)?;
        Ok(runner)
    }

    /// Whether it is onto the loop with that anchor.
    pub fn is_onto(&self, anchor: &Bound<'_, PyAny>) -> bool {
        self.attached.as_ref().is_some_and(|known| known.anchor.is(anchor))
    }

    /// For one who waits: which thread runs the loop now. That of somebody else's may be another one than before, and the
    /// earlier one may wait for just this thread.
    pub fn find_thread(&self, py: Python<'_>) {
        if self.attached.is_none() {
            return;
        }
        if let Some(thread) = self.event_loop(py).and_then(thread_of) {
            self.thread_id.store(thread, Relaxed);
        } else if !self.is_loop_running(py) {
            // Its next mail tells.
            self.thread_id.store(0, Relaxed);
        } else if let Some(thread) = self.movable(py).and_then(|movable| signals::through(py, || movable.thread(py))?) {
            self.thread_id.store(thread, Relaxed);
        }
    }

    /// The loop, if it may go on in another thread. A trio run never leaves its own.
    pub fn movable(&self, py: Python<'_>) -> Option<Movable> {
        self.attached.as_ref().filter(|_| self.backend == Backend::Asyncio)?;
        Some(Movable(self.event_loop(py)?.clone().unbind()))
    }

    /// For the loop's thread: notes what begins there.
    pub fn note_job(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        if !self.notes_jobs {
            return Ok(());
        }
        // By which loops are asked to turn (stalls.rs) is no news.
        if self.is_watched && !matches!(job, Job::Do(_)) {
            stalls::stir(py);
        }
        let Some(attached) = &self.attached else { return Ok(()) };
        self.thread_id.store(names::thread_ident(py)?, Relaxed);
        attached.has_run.store(true, Relaxed);
        if let Job::Start(call, _, run_in) = job {
            attached.calls.add(Arc::downgrade(call));
            if let RunIn::Session { session, is_last: false } = run_in {
                attached.sessions.add(Arc::downgrade(session));
            }
        }
        Ok(())
    }

    /// For a step: its session, if that is a new one on a loop of asyncio's that somebody else runs.
    pub fn new_session_of_others(&self, run_in: &RunIn) -> Option<Arc<Session>> {
        self.attached.as_ref().filter(|_| self.backend == Backend::Asyncio)?;
        match run_in {
            RunIn::Session { session, is_last: false } if session.is_new() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Has the session end with the program that runs the loop. That cancels all tasks first, and waits for them; the session's
    /// refuses to be cancelled between two steps.
    pub fn guard(self: &Arc<Self>, py: Python<'_>, event_loop: &Bound<'_, PyAny>, session: &Session) -> PyResult<()> {
        let (Some(attached), Some(task)) = (&self.attached, session.known_task(py)) else { return Ok(()) };
        let make = || names::guard(py)?.call1((event_loop, Sessions(Arc::downgrade(self)))).map(Bound::unbind);
        attached.guard.get_or_try_init(py, make)?.call_method1(py, intern!(py, "add"), (task,)).map(drop)
    }

    /// Whether its loop can still end what runs there. For a loop of somebody else's, a look at it: one that is closed,
    /// or that nobody has run for a while, can't.
    pub fn is_gone(&self, py: Python<'_>) -> bool {
        if self.has_ended() || self.epoch != process::epoch() {
            return true;
        }
        let Some(attached) = &self.attached else { return false };
        if self.is_loop_closed(py) || process::stays_for_ever(self.thread_id()) {
            self.lose(py);
            return true;
        }
        let runs = self.is_loop_running(py);
        let mut since = lock(&attached.stands_since);
        if runs {
            attached.has_run.store(true, Relaxed);
            *since = None;
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() > LONGEST_STAND
    }

    /// For a call that no thread waits for: has it know the loop, which is somebody else's.
    pub fn note_host(self: &Arc<Self>, call: &Call) {
        if self.attached.is_some() {
            let me: Weak<Self> = Arc::downgrade(self);
            call.extras().set_host(me);
        }
    }

    /// Has the loop looked at from time to time, as long as there are calls that no thread waits for: who takes their
    /// results can't look by itself.
    pub fn watch_for_standing(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Some(attached) = &self.attached else { return Ok(()) };
        if !attached.is_watched.swap(true, Relaxed) {
            let watched = names::watch_standing(py)?.call1((Standing(Arc::clone(self)),));
            watched.map_err(|error| if errors::is_too_late(py, &error) { errors::shutting_down() } else { error })?;
        }
        Ok(())
    }

    /// Whether the cancellation of a call, which nobody has asked for, came from the end of its loop: whoever runs that
    /// cancels all tasks first, and closes it soon.
    pub fn is_about_to_be_gone(&self, py: Python<'_>) -> bool {
        let looks = if self.attached.is_some() { MOST_LOOKS } else { 0 };
        for _ in 0..looks {
            if !self.is_loop_running(py) {
                return true;
            }
            process::sleep(py, || std::thread::sleep(LOOK_AGAIN));
        }
        false
    }

    /// For whoever has told it to end: a loop that nobody runs ends nothing.
    pub fn lose_if_it_stands(&self, py: Python<'_>) {
        if self.attached.is_some() && !self.is_loop_running(py) {
            self.lose(py);
        }
    }

    /// The error for a call that its loop has not ended.
    pub fn gone(&self, py: Python<'_>) -> PyErr {
        if process::has_left() {
            return errors::shutting_down();
        }
        // A loop of the bridge's own is not asked: its thread may have gone on to the exit.
        let is_detached = || self.is_closing() && !self.is_loop_closed(py);
        if self.attached.is_some() && !is_detached() {
            return errors::runner_closed(py, self.why_gone(py));
        }
        errors::closed_meanwhile(py, &self.name)
    }

    fn why_gone(&self, py: Python<'_>) -> String {
        let the_loop = format!("the loop that the bridge {:?} is onto", &*self.name);
        let has_run = self.attached.as_ref().is_some_and(|known| known.has_run.load(Relaxed));
        if self.is_loop_closed(py) {
            format!("{the_loop} was closed before the call ended")
        } else if has_run {
            format!("{the_loop} was stopped before the call ended, and nobody runs it")
        } else {
            format!(
                "nobody runs {the_loop}, so the call has not begun; run it in another thread, as by \
                 threading.Thread(target=loop.run_forever).start(), or leave out `loop`: a bridge without it runs one of its own"
            )
        }
    }

    /// The loop is gone (by 1).
    pub fn lose(&self, py: Python<'_>) {
        for job in self.mailbox.close() {
            match job {
                Job::Start(call, target, _) => {
                    target.discard(py);
                    call.lose(py, self.gone(py));
                }
                Job::Arrival(arrival) => arrival.be_lost(py),
                Job::Cancel(_) | Job::Do(_) | Job::Stop => {}
            }
        }
        self.note_closing();
        self.leave_behind(py, None);
        self.outbox.stop_deferring();
        let _ = self.outbox.flush();
        self.note_ended();
    }

    /// Ends what runs there, and lets go of the loop; on the loop's thread.
    pub fn detach(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Some(attached) = &self.attached else { return Ok(()) };
        let (calls, sessions) = (attached.calls.take(), attached.sessions.take());
        end_sessions(py, &sessions)?;
        for call in calls.iter().filter(|call| !call.was_cancelled() && !call.knows_of_closing()) {
            if let Err(error) = call.cancel(py) {
                log::log(py, "error", "a task could not be cancelled, as what it waits for raised this", Some(&error));
            }
        }
        self.detach_when_over(py, calls, sessions, Instant::now().checked_add(self.cleanup))
    }

    fn detach_when_over(
        self: &Arc<Self>,
        py: Python<'_>,
        calls: Vec<Arc<Call>>,
        sessions: Vec<Arc<Session>>,
        until: Option<Instant>,
    ) -> PyResult<()> {
        let is_over = calls.iter().all(|call| call.is_settled()) && sessions.iter().all(|session| session.has_ended());
        if is_over || self.has_ended() || until.is_some_and(|until| until <= Instant::now()) {
            self.lose(py);
            return Ok(());
        }
        let Some(event_loop) = self.event_loop(py) else { return Ok(()) };
        let left = Mutex::new(Some((Arc::clone(self), calls, sessions)));
        let again = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let taken = lock(&left).take();
            taken.map_or(Ok(()), |(runner, calls, sessions)| runner.detach_when_over(args.py(), calls, sessions, until))
        };
        let again = PyCFunction::new_closure(py, Some(c"syncline_detach"), None, again)?;
        event_loop.call_method1(intern!(py, "call_later"), (LOOK_AGAIN.as_secs_f64(), again)).map(drop)
    }
}

impl LoopOfOthers for Runner {
    fn runs(&self, py: Python<'_>) -> bool {
        self.is_loop_running(py)
    }

    fn gone(&self, py: Python<'_>) -> PyErr {
        Self::gone(self, py)
    }
}

/// The identifier of the thread that runs a loop, 0 if none does. `None` if the loop doesn't tell; asyncio's do.
pub fn thread_of(event_loop: &Bound<'_, PyAny>) -> Option<u64> {
    let told = event_loop.getattr_opt(intern!(event_loop.py(), "_thread_id")).ok().flatten()?;
    Some(told.extract().unwrap_or(0))
}

/// A loop of somebody else's, as _standing.py looks at it.
#[pyclass(frozen, module = "syncline._core")]
struct Standing(Arc<Runner>);

#[pymethods]
impl Standing {
    /// Ends the calls of a loop that nobody runs any more. False if there are none left.
    fn look(&self, py: Python<'_>) -> bool {
        let _inside = process::step_inside_unless_left(py);
        let (runner, Some(attached)) = (&self.0, &self.0.attached) else { return false };
        // Before the calls are looked at: a call that comes later has the loop watched anew.
        attached.is_watched.store(false, SeqCst);
        let pending: Vec<_> =
            runner.told_of_end.alive().into_iter().filter(|call| !call.is_settled() && !call.is_abandoned()).collect();
        if pending.is_empty() {
            return false;
        }
        if runner.is_gone(py) {
            for call in pending {
                // Nobody waits for the call any more: if the loop is run again, it ends there.
                runner.ask_to_cancel(py, &call);
                call.leave_behind(py, runner.gone(py));
            }
        }
        // If a later call has had the loop watched by now, its watcher looks on, and this one ends.
        !attached.is_watched.swap(true, SeqCst)
    }
}

/// The sessions on a loop of somebody else's, as _onto.py ends them.
#[pyclass(frozen, module = "syncline._core")]
struct Sessions(Weak<Runner>);

#[pymethods]
impl Sessions {
    /// On the loop's thread.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let runner = self.0.upgrade();
        let attached = runner.as_ref().and_then(|runner| runner.attached.as_ref());
        attached.map_or(Ok(()), |attached| end_sessions(py, &attached.sessions.alive()))
    }
}

/// Those between two steps do what is left to them at once.
fn end_sessions(py: Python<'_>, sessions: &[Arc<Session>]) -> PyResult<()> {
    for session in sessions {
        if session.is_idle() {
            session.end_by_closer(py)?;
        } else {
            session.end_after_this_step();
        }
    }
    Ok(())
}

/// Told by the inbox of its loop, when that is closed.
impl Arrival for Runner {
    fn arrive(&self, _py: Python<'_>) {}

    fn be_lost(&self, py: Python<'_>) {
        self.lose(py);
    }
}
