//! Carrying a call out where it was placed.

use super::blocking::Blocking;
use super::loops_of_thread;
use super::placement::Place;
use super::shared::Shared;
use crate::call::caller::expect_call;
use crate::call::heard::Heard;
use crate::call::state::Call;
use crate::call::wait::{Patience, seconds};
use crate::coroutine::refused;
use crate::coroutine::target::Target;
use crate::python::context::Carried;
use crate::python::errors;
use crate::python::names;
use crate::python::process;
use crate::python::signals;
use crate::runner::hop::{Note, hop};
use crate::runner::moving;
use crate::runner::nodes;
use crate::runner::state::current_runner;
use crate::switch::nest;
use crate::task::start::RunIn;
use crate::worker::from_thread;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;

/// How often a call looks for a place. Each time the runner that it has found may end before it takes the call.
const MOST_ATTEMPTS: u32 = 8;

impl Shared {
    /// Runs the target, for at most `timeout` seconds.
    pub fn run(self: &Arc<Self>, py: Python<'_>, target: Target, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.run_where(py, target, timeout, Self::place)
    }

    /// The same, but never on the loop that sent this worker: what is waited for is on a loop of the bridge, which may
    /// move only while this thread drives it.
    pub fn run_at_home(self: &Arc<Self>, py: Python<'_>, target: Target, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.run_where(py, target, timeout, Self::place_on_loop)
    }

    fn run_where(
        self: &Arc<Self>,
        py: Python<'_>,
        target: Target,
        timeout: Option<f64>,
        place: impl FnOnce(&Arc<Self>, Python<'_>, Patience) -> PyResult<Place>,
    ) -> PyResult<Py<PyAny>> {
        let place = || {
            let patience = self.patience(seconds("timeout", timeout)?);
            Ok((place(self, py, patience)?, patience))
        };
        if !self.is_plain() {
            let (target, ()) = target.with(py, self.refuse_if_closed(py))?;
            return self.observed(&target.object(py).clone(), target, place);
        }
        let (target, (place, patience)) = target.with(py, place())?;
        self.execute(py, place, target, patience)
    }

    /// Where a call runs that may take so many seconds, for an open bridge.
    pub fn place_within(self: &Arc<Self>, py: Python<'_>, timeout: Option<f64>) -> PyResult<(Place, Patience)> {
        let patience = self.patience(seconds("timeout", timeout)?);
        Ok((self.place(py, patience)?, patience))
    }

    /// Calls a sync function on the bridge's loop.
    pub fn call_plain(
        self: &Arc<Self>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = function.py();
        refused::all_but_sync(function)?;
        if self.runs_here(py)? {
            return nest::call_plain(&self.terms, function, args, kwargs);
        }
        if !self.is_plain() {
            return self.observed(function, Target::plain(function, args, kwargs), || self.place_within(py, None));
        }
        let patience = self.patience(None);
        let place = self.place_elsewhere(py, patience)?;
        self.execute(py, place, Target::plain(function, args, kwargs), patience)
    }

    /// Runs the target and waits for its result.
    pub fn execute(
        self: &Arc<Self>,
        py: Python<'_>,
        place: Place,
        target: Target,
        patience: Patience,
    ) -> PyResult<Py<PyAny>> {
        let (mut place, mut target) = (place, target);
        for _ in 0..MOST_ATTEMPTS {
            let shares_context = self.terms.shares_context;
            let mut spare = None;
            match &place {
                Place::InTask(strand) => return nest::run(py, &self.terms, strand, target, patience.timeout),
                Place::Away(strand) => {
                    let remote = Target::Awaitable(Bound::new(py, self.remote(target))?.into_any().unbind());
                    return nest::run_without_bridge(py, strand, remote, patience.timeout);
                }
                Place::Sender(sender) => {
                    let stats = &self.terms.stats;
                    return from_thread::run_there(py, sender, target, patience, shares_context, stats);
                }
                Place::Own(own) => spare = own.spare.lend(py),
                Place::Runner(runner) => spare = runner.spare.get(py).and_then(|spare| spare.lend(py)),
                Place::Inline(_) => {}
            }
            // The context is lent until this round has ended.
            let (at_hand, _lent) = spare.unzip();
            let carried = Carried::from_caller(py, at_hand).and_then(|carried| match &place {
                Place::Runner(runner) if runner.attached.is_some() => expect_call(py, carried),
                _ => Ok(carried),
            });
            let (ready, carried) = target.with(py, carried)?;
            let run_in = RunIn::Task(carried.context(py));
            match self.execute_at(py, &place, ready, run_in, patience) {
                Ok(heard) => {
                    let written = if shares_context { carried.write_back(py, heard.has_ended) } else { Ok(()) };
                    return signals::ended(py, written.and(heard.result));
                }
                // The runner has ended after it was found and before the call was sent. There is another, or an error.
                // A call that was not for the sender of this thread is not now.
                Err((returned, _)) => target = returned,
            }
            (target, place) = target.with(py, self.place_on_loop(py, patience))?;
        }
        target.discard(py);
        Err(errors::closed_meanwhile(py, &self.name))
    }

    /// The same on a loop of this bridge. Gives target and `run_in` back if that loop takes no more calls.
    pub fn execute_at(
        self: &Arc<Self>,
        py: Python<'_>,
        place: &Place,
        target: Target,
        run_in: RunIn,
        patience: Patience,
    ) -> Result<Heard, (Target, RunIn)> {
        match place {
            Place::Runner(runner) if runner.epoch == process::epoch() => {
                // Without an edge, if the loop that runs here can't be asked for: a signal handler has raised.
                let here = signals::through(py, || nodes::here(py)).flatten();
                let blocking = here.as_ref().map(|here| Blocking::begin(py, here, &runner.node)).transpose();
                let blocking = match blocking {
                    Ok(blocking) => blocking,
                    Err(error) => {
                        target.discard(py);
                        return Ok(Heard::refused(error));
                    }
                };
                let circle = blocking.as_ref().is_some_and(Blocking::closes_circle);
                let _blocking = blocking.filter(|_| !circle);
                if circle && self.has_others(runner) {
                    // Two loops' threads chose each other's runner at the same moment. The other one waits for this
                    // thread by now, which `place` sees when it chooses again.
                    return Err((target, run_in));
                }
                let note = |py: Python<'_>, call: &Call| {
                    self.note_origin(py, call)?;
                    if let Some(here) = here.as_ref().filter(|_| !circle) {
                        moving::note_blocking(call, here, runner);
                    }
                    Ok(())
                };
                let note = Note { note: &note, at_once: here.is_some() && current_runner().is_none() };
                hop(py, runner, target, run_in, patience, &self.terms.stats, note)
            }
            Place::Own(own) if own.epoch == process::epoch() => {
                let heard = own.run(py, target, run_in, patience, &self.terms.stats);
                if let Err(error) = &heard.result {
                    loops_of_thread::leave_if_it_was_closed(py, own, error);
                }
                if self.is_closed()
                    && let Err(error) = loops_of_thread::close(py, self)
                {
                    let _ = signals::keep(py, error);
                }
                Ok(heard)
            }
            Place::Inline(_) => Ok(self.run_inline(py, target, run_in, patience)),
            Place::Runner(_) | Place::Own(_) | Place::InTask(_) | Place::Away(_) | Place::Sender(..) => {
                Err((target, run_in))
            }
        }
    }

    pub fn run_inline(&self, py: Python<'_>, target: Target, run_in: RunIn, patience: Patience) -> Heard {
        if let Err(exiting) = process::end_daemon_thread(py) {
            target.discard(py);
            return Heard::refused(exiting);
        }
        // Late in the interpreter's end imports fail, also that of asyncio, and there is no loop.
        let is_free = names::running_loop(py).is_ok_and(|running| running.is_none());
        let made = if is_free { self.last_loop(py).ok() } else { None };
        let Some(last) = made else {
            target.discard(py);
            return Heard::refused(errors::shutting_down());
        };
        let heard = last.own.run(py, target, run_in, patience, &self.terms.stats);
        match last.leave(py) {
            Ok(()) => heard,
            Err(error) => Heard { result: Err(error), ..heard },
        }
    }
}
