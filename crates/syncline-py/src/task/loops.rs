//! The event loops that bridges make, and what bridges need of any loop.
//!
//! Invariants:
//! 1. `create_task` of a loop of our class puts each coroutine into a strand, so that nested calls await in place,
//!    whatever task factory the user gives the loop.
//! 2. A loop of our class says that it is running also while the core makes a first step on it, outside of its turns.

use crate::call::caller::note_new_task;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::switch::nest;
use crate::switch::nestable::{self, TaskFactory};
use crate::switch::stepper::Owner;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8};

/// The base class that the loops of bridges have besides asyncio's. It answers in Rust what asyncio asks for each task.
#[pyclass(frozen, subclass, module = "syncline._core")]
#[derive(Default)]
pub struct BridgeLoop {
    is_stepping: AtomicBool,
    /// Somebody else has stopped it.
    is_stopped: AtomicBool,
    /// Who makes its tasks: a `Maker`.
    maker: AtomicU8,
    is_debugged: AtomicBool,
}

#[pymethods]
impl BridgeLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (coro, **options))]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        note_new_task(slf.py(), options)?;
        names::base_create_task(slf.py())?.call((slf, nestable::for_task_here(coro)?), options)
    }

    fn set_task_factory(slf: &Bound<'_, Self>, factory: &Bound<'_, PyAny>) -> PyResult<()> {
        names::base_set_task_factory(slf.py())?.call1((slf, factory))?;
        slf.get().maker.store(maker_of(factory) as u8, Relaxed);
        Ok(())
    }

    fn is_running(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(slf.get().is_stepping.load(Relaxed) || names::base_is_running(slf.py())?.call1((slf,))?.is_truthy()?)
    }

    /// All that asyncio's does. Outside of a turn it is meant for the next one. Stops of ours don't come here.
    fn stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().is_stopped.store(true, Relaxed);
        slf.setattr(intern!(slf.py(), "_stopping"), true)
    }

    fn set_debug(slf: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().is_debugged.store(enabled.is_truthy()?, Relaxed);
        names::base_set_debug(slf.py())?.call1((slf, enabled)).map(drop)
    }

    fn get_debug(&self) -> bool {
        self.is_debugged.load(Relaxed)
    }
}

/// Has `run` turn the loop once, until `stop` stops it, and returns whether it did. Some loops return at once. `run` says
/// whether the loop was stopped, and not broken off before.
pub fn turns_once(
    event_loop: &Bound<'_, PyAny>,
    stop: &Bound<'_, PyAny>,
    run: impl Fn() -> PyResult<bool>,
) -> PyResult<bool> {
    let py = event_loop.py();
    let seen = PyList::empty(py);
    event_loop.call_method1(intern!(py, "call_soon"), (seen.getattr(intern!(py, "append"))?, py.None()))?;
    event_loop.call_method1(intern!(py, "call_soon"), (stop,))?;
    while !run()? && seen.is_empty() {}
    Ok(!seen.is_empty())
}

/// Turns a loop once, and raises if it does not turn. Some loops run in the main thread only; elsewhere their
/// `run_forever` returns at once.
pub fn check_runs(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let stop = event_loop.getattr(intern!(py, "stop"))?;
    let turned = turns_once(event_loop, &stop, || event_loop.call_method0(intern!(py, "run_forever")).map(|_| true));
    if let Ok(true) = turned {
        return Ok(());
    }
    let kind = errors::type_name(event_loop);
    let closed = errors::runner_closed(
        py,
        format!(
            "the loop that loop_factory returned, {kind}, does not run in this thread: its run_forever() returns at once; \
             some loops run in the main thread only: give that one to Bridge(scope=\"caller\") there"
        ),
    );
    Err(match turned {
        Err(error) => errors::from_cause(py, closed, error),
        Ok(_) => closed,
    })
}

/// Whether somebody else has stopped it since this was last asked. Only loops of our class tell.
pub fn was_stopped(event_loop: &Bound<'_, PyAny>) -> bool {
    let ours = event_loop.cast::<BridgeLoop>();
    ours.is_ok_and(|ours| ours.get().is_stopped.load(Relaxed) && ours.get().is_stopped.swap(false, Relaxed))
}

/// While it lives, a loop of our class says that it is running (by 2).
pub struct Stepping<'a>(Option<&'a AtomicBool>);

impl<'a> Stepping<'a> {
    pub fn on(event_loop: &'a Bound<'_, PyAny>) -> Self {
        let ours = event_loop.cast::<BridgeLoop>().ok().map(|ours| &ours.get().is_stepping);
        Self(ours.filter(|is_stepping| !is_stepping.swap(true, Relaxed)))
    }
}

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        if let Some(is_stepping) = self.0 {
            is_stepping.store(false, Relaxed);
        }
    }
}

/// Who makes the tasks of our calls there.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Maker {
    /// We do.
    Ours = 0,
    /// We do, as the interpreter's tools see them.
    Shown = 1,
    /// The user has a say in it, by a task factory.
    Factory = 2,
}

pub fn maker(event_loop: &Bound<'_, PyAny>) -> PyResult<Maker> {
    match event_loop.cast::<BridgeLoop>() {
        Ok(ours) => Ok(match ours.get().maker.load(Relaxed) {
            0 => Maker::Ours,
            1 => Maker::Shown,
            _ => Maker::Factory,
        }),
        Err(_) => {
            let py = event_loop.py();
            let factory = event_loop.call_method0(intern!(py, "get_task_factory"))?;
            let maker = maker_of(&factory);
            let is_shown = maker == Maker::Ours
                && SHOWS.load(Relaxed)
                && names::is_shown(py)?.call1((event_loop,))?.is_truthy()?;
            Ok(if is_shown { Maker::Shown } else { maker })
        }
    }
}

/// Whether tasks are shown on any loop.
static SHOWS: AtomicBool = AtomicBool::new(false);

/// For a new loop of ours: has the interpreter's tools see its tasks, if `visible`.
pub fn shown(visible: bool, event_loop: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if visible {
        SHOWS.store(true, Relaxed);
        names::show_tasks(event_loop.py())?.call1((&event_loop,))?;
    }
    Ok(event_loop)
}

/// From now on the tasks of our calls on this loop of somebody else's are shown.
pub fn show(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    names::show_calls(event_loop.py())?.call1((event_loop,))?;
    SHOWS.store(true, Relaxed);
    Ok(())
}

/// Whether it is a loop of ours on which tasks are made without anybody else's knowing: by no factory of the user's, and
/// not in debug mode.
pub fn makes_plain_tasks(event_loop: &Bound<'_, PyAny>) -> bool {
    event_loop.cast::<BridgeLoop>().is_ok_and(|ours| {
        let ours = ours.get();
        ours.maker.load(Relaxed) == Maker::Ours as u8 && !ours.is_debugged.load(Relaxed)
    })
}

/// Which task the strand of a new call belongs to. Without a task factory of the user's it is the task whose coroutine
/// the core has made. With one, the task may have another coroutine around ours, and only the first step shows whose it
/// is.
pub fn owner(event_loop: &Bound<'_, PyAny>) -> Owner {
    match event_loop.cast::<BridgeLoop>() {
        Ok(ours) if ours.get().maker.load(Relaxed) == Maker::Ours as u8 => Owner::TaskOfOurs,
        _ => Owner::WhoeverSteps,
    }
}

/// Whether we hear of each task that is made there (`caller::note_new_task`).
pub fn tells_of_tasks(event_loop: &Bound<'_, PyAny>) -> bool {
    nest::drives_strands() || event_loop.is_instance_of::<BridgeLoop>()
}

/// Who makes the tasks of our calls on a loop with this task factory. A `TaskFactory` around no other one does not
/// count where tasks run in strands anyway: they are made the same without it.
fn maker_of(factory: &Bound<'_, PyAny>) -> Maker {
    if factory.is_none() {
        return Maker::Ours;
    }
    if SHOWS.load(Relaxed) && names::make_shown(factory.py()).is_ok_and(|shown| factory.is(shown)) {
        return Maker::Shown;
    }
    let is_ours_alone = factory.cast::<TaskFactory>().is_ok_and(|ours| ours.get().inner.is_none());
    if is_ours_alone && nest::strands_here() { Maker::Ours } else { Maker::Factory }
}
