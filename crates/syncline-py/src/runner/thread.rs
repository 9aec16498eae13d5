//! A runner's own thread: it makes the loop, says that it is ready, drives it and ends it.
//!
//! Invariants:
//! 1. The caller that starts a runner waits as all others do that need it, until the runner's thread says what became
//!    of the start. If it stops waiting, the start goes on, and the next caller has the runner.

use super::registry::{Start, Starting};
#[cfg(target_os = "linux")]
use super::selector;
use super::state::{Feeder, Plan, Runner, drive};
use super::turns;
#[cfg(unix)]
use super::uv_feeder;
use super::watched;
use crate::call::outcome::{Outcome, cancelled_error};
use crate::call::outer::Outer;
use crate::call::wait::{Awaited, Fate, Patience, Wait};
use crate::python::frames;
use crate::python::log;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::residents;
use crate::python::signals;
use crate::python::surroundings::Backend;
use crate::python::threads;
use crate::switch::carrier;
use crate::switch::nest::{self, Driving};
use crate::switch::nestable;
use crate::task::loops;
use crate::task::new_loop::{self, Turner};
use crate::task::spare::SpareTask;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};

/// How often a thread that waits for a start looks for signals that were delivered to another one.
const TICK: Duration = Duration::from_millis(50);

/// Starts a runner's thread, without waiting for it. `begin` is called with the runner first.
pub fn start(py: Python<'_>, plan: Plan, duty: Start, begin: impl FnOnce(&Arc<Runner>)) -> PyResult<()> {
    preload(py, &plan)?;
    let runner = Runner::new(py, &plan, &duty.starting().node)?;
    begin(&runner);
    let starting = Arc::clone(duty.starting());
    let registry = Arc::clone(duty.runners());
    let name = Arc::clone(&runner.name);
    let main = {
        let todo = Mutex::new(Some((runner, plan, duty)));
        PyCFunction::new_closure(
            py,
            Some(c"syncline_runner"),
            None,
            move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let todo = lock(&todo).take();
                if let Some((runner, plan, duty)) = todo {
                    main(args.py(), &runner, plan, duty);
                }
            },
        )?
    };
    let started = threads::start(py, &name, main.into_any(), PyTuple::empty(py), {
        let starting = Arc::clone(&starting);
        Some(Box::new(move || starting.is_of_thread(threads::thread_key())))
    });
    if started.is_err() {
        // The thread may run all the same, if the error is a signal handler's that came in the middle. Then this does
        // nothing, and by 1 the runner is there for the next caller.
        registry.withdraw(&starting);
    }
    started.map(drop)
}

/// Imports what the runner's thread needs, if the import lock is held. This thread may be the one that holds it, when a
/// signal handler makes this call in the middle of an import. The runner's thread would then wait for the lock, and
/// this thread for that one.
fn preload(py: Python<'_>, plan: &Plan) -> PyResult<()> {
    if !names::import_lock_held(py)?.call0()?.is_truthy()? {
        return Ok(());
    }
    names::get_logger(py)?;
    names::partial(py)?;
    names::selector_event_loop(py)?;
    py.import(intern!(py, "selectors"))?;
    if plan.backend == Backend::Trio {
        names::trio_loop(py)?;
    }
    if plan.stall_after.is_some() {
        names::watch_loop(py)?;
    }
    Ok(())
}

/// Waits for the end of a start. If this thread has begun the start (`is_mine`), raises the error that it failed with.
pub fn wait_for_start(py: Python<'_>, starting: &Arc<Starting>, is_mine: bool, patience: Patience) -> PyResult<()> {
    // There is nothing to clean up, so a timeout or a signal ends this wait at once.
    let patience = Patience { cleanup: Duration::ZERO, ..patience };
    let mut awaited = RunnerStart { starting, is_mine, outer: Outer::here() };
    Wait::begin(patience).wait_for(py, &mut awaited)?;
    // What a handler raised meanwhile: the call that needs the runner does not begin.
    if let Err(signal) = signals::check(py) {
        awaited.abandon(py, None);
        return Err(signal);
    }
    match is_mine.then(|| starting.take_error()).flatten() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct RunnerStart<'a> {
    starting: &'a Arc<Starting>,
    is_mine: bool,
    /// The call that this wait is a part of.
    outer: Option<Outer>,
}

impl Awaited for RunnerStart<'_> {
    type Output = ();

    fn take(&mut self, _py: Python<'_>) -> Option<Outcome<()>> {
        self.starting.over.is_open().then_some(Outcome::Returned(()))
    }

    fn fate(&mut self, _py: Python<'_>) -> Fate {
        Fate::Runs
    }

    fn sleep(&mut self, py: Python<'_>, due: Option<Instant>) -> PyResult<()> {
        let left = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        process::sleep(py, || _ = self.starting.over.wait(Some(left)));
        Ok(())
    }

    fn cancel(&mut self, _py: Python<'_>) {}

    fn outer_is_to_end(&mut self, py: Python<'_>, now: Instant) -> bool {
        self.outer.as_ref().is_some_and(|outer| outer.is_to_end(py, now))
    }

    fn abandon(&mut self, py: Python<'_>, _waited_for_cleanup: Option<Duration>) {
        if self.is_mine
            && let Some(error) = self.starting.abandon()
        {
            tell_nobody(py, &error);
        }
    }

    fn closed(&self, py: Python<'_>) -> PyErr {
        cancelled_error(py)
    }

    fn is_closing(&self, _py: Python<'_>) -> bool {
        false
    }
}

fn tell_nobody(py: Python<'_>, error: &PyErr) {
    log::log(py, "error", "a loop could not be started, and nobody waits for it any more", Some(error));
}

/// The thread's main function.
fn main(py: Python<'_>, runner: &Arc<Runner>, plan: Plan, duty: Start) {
    frames::serve(py);
    // Held while the loop is made: until that is among the residents, nothing else makes the exit wait for this thread.
    let inside = process::step_inside();
    runner.note_begun();
    drive(Some(runner));
    let _ended = ThreadIsOver(runner);
    // After `note_begun`: a close that came first has made this return false. One that comes later sees that the thread
    // runs, and waits for it.
    if !duty.starting().begin() {
        return;
    }
    let prepared = prepare(py, runner, &plan);
    // The loop factory may refer to the bridge. This thread ends when the bridge is dropped, so it must not keep it.
    drop(plan);
    match prepared {
        Ok(event_loop) => {
            if !process::is_exiting() && duty.ready(Arc::clone(runner)).is_ok() {
                drop(inside);
                turn(py, runner, &event_loop);
            }
            end(py, runner, &event_loop);
        }
        Err(error) => {
            if let Err(error) = duty.fail(error) {
                tell_nobody(py, &error);
            }
        }
    }
}

/// Frees all who wait for the thread, however it ends.
struct ThreadIsOver<'a>(&'a Arc<Runner>);

impl Drop for ThreadIsOver<'_> {
    fn drop(&mut self) {
        let runner = self.0;
        runner.note_closing();
        drop(runner.mailbox.close());
        runner.outbox.stop_deferring();
        let _ = runner.outbox.flush();
        #[cfg(target_os = "linux")]
        drop(lock(&runner.wake_fd).take());
        runner.note_ended();
        drive(None);
    }
}

/// All that has to be there before the first call comes.
fn prepare<'py>(py: Python<'py>, runner: &Arc<Runner>, plan: &Plan) -> PyResult<Bound<'py, PyAny>> {
    runner.thread_id.store(names::thread_ident(py)?, Relaxed);
    runner.thread.set(py, names::current_thread(py)?.call0()?.unbind());
    let event_loop = make_loop(py, runner, plan)?;
    if plan.loop_factory.is_some()
        && let Err(error) = loops::check_runs(&event_loop)
    {
        let _ = event_loop.call_method0(intern!(py, "close"));
        return Err(error);
    }
    runner.event_loop.set(py, event_loop.clone().unbind());
    if runner.feeder() == Feeder::Selector {
        runner.spare.set(py, SpareTask::new(py)?);
    }
    nest::drive(Driving::Ours { bridge: runner.bridge_id, switches: runner.switches });
    #[cfg(unix)]
    if plan.loop_factory.is_some() && runner.backend == Backend::Asyncio {
        uv_feeder::begin(runner, &event_loop);
    }
    if runner.feeder() == Feeder::Callback {
        runner.mailbox.park();
    }
    let resident: Weak<Runner> = Arc::downgrade(runner);
    residents::remember(resident, py);
    turns::watch(&event_loop);
    watched::watch(py, runner, plan.stall_after)?;
    Ok(event_loop)
}

fn make_loop<'py>(py: Python<'py>, runner: &Arc<Runner>, plan: &Plan) -> PyResult<Bound<'py, PyAny>> {
    match &plan.loop_factory {
        _ if runner.backend == Backend::Trio => {
            let factory = (names::trio_loop(py)?, runner.cleanup.as_secs_f64(), runner.switches);
            new_loop::make(&names::partial(py)?.call1(factory)?, Turner::Runner)
        }
        Some(factory) => {
            let event_loop = loops::shown(plan.is_visible, new_loop::by_factory(factory.bind(py), Turner::Runner)?)?;
            nestable::nests(runner.switches, event_loop)
        }
        #[cfg(target_os = "linux")]
        None => {
            let class = selector::runner_loop(py)?;
            let selector = Bound::new(py, selector::Selector::new(py, runner)?)?;
            let factory = names::partial(py)?.call1((class, selector))?;
            loops::shown(plan.is_visible, new_loop::make(&factory, Turner::Runner)?)
        }
        #[cfg(not(target_os = "linux"))]
        None => loops::shown(plan.is_visible, new_loop::make(names::caller_loop(py)?, Turner::Runner)?),
    }
}

/// Turns the loop until it is stopped.
fn turn(py: Python<'_>, runner: &Runner, event_loop: &Bound<'_, PyAny>) {
    loop {
        match event_loop.call_method0(intern!(py, "run_forever")) {
            Ok(_) => return,
            // `SystemExit` and the like in a background task: logged, and the loop lives on.
            Err(error) if !error.is_instance_of::<PyException>(py) => {
                log::log(py, "error", "a background task or callback raised this, and the loop goes on", Some(&error));
            }
            Err(error) => {
                log::log(py, "error", "the loop died", Some(&error));
                return;
            }
        }
        if runner.is_closing() {
            return;
        }
    }
}

fn end(py: Python<'_>, runner: &Runner, event_loop: &Bound<'_, PyAny>) {
    runner.note_closing();
    #[cfg(unix)]
    uv_feeder::end(runner);
    if let Err(error) = runner.shut_down(py, event_loop) {
        log::log(py, "error", "the loop could not be closed cleanly", Some(&error));
    }
    if let Some(spare) = runner.spare.get(py) {
        spare.drop_it(py);
    }
    carrier::end_all(py);
}
