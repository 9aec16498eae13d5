//! How a bridge is closed.

use super::caller_loop::CallerLoop;
use super::loops_of_thread;
use super::shared::{BridgeState, Shared};
use crate::call::ends::wait_for_ends;
use crate::python::process;
use crate::python::signals;
use crate::runner::state::{Runner, current_runner};
use pyo3::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use syncline_core::sync::{replace, take};

impl Shared {
    /// Tells all loops to end, and waits for that. A second close waits for the same loops.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.look_before_closing(py)?;
        self.loops.state.set(BridgeState::CLOSED, true);
        let begun = Instant::now();
        let (told, untold) = self.ending_runners(py);
        let own_loops = self.begin_closing_own_loops(py);
        let here = current_runner();
        let runs_here = self.terms.is_onto_this(py);
        // A thread can't wait for its own end, nor for the end of a runner that waits for this thread.
        let can_wait = |runner: &Arc<Runner>| !here.as_ref().is_some_and(|here| runner.node.leads_to(&here.node));
        let (untold, others): (Vec<_>, Vec<_>) = untold.into_iter().partition(|runner| !runs_here && can_wait(runner));
        others.iter().for_each(|runner| runner.begin_closing(py));
        let told = told.into_iter().filter(|runner| !runs_here && can_wait(runner)).map(|runner| runner as _);
        let told = told.chain(own_loops.into_iter().map(|own| own as _)).collect();
        let untold = untold.into_iter().map(|runner| runner as _).collect();
        let ended = wait_for_ends(py, told, untold, begun);
        let closed = loops_of_thread::close(py, self);
        signals::ended(py, ended.and(closed))
    }

    /// Whether there is a loop whose end `close` would wait for.
    pub fn waits_for_loops(&self, py: Python<'_>) -> bool {
        let is_elsewhere = |runner: &Arc<Runner>| runner.takes_calls() && !self.terms.is_onto_this(py);
        self.registry().any(|_| true)
            || self.attached.as_ref().is_some_and(is_elsewhere)
            || self.loops.own.alive().iter().any(|own| own.is_open())
    }

    /// The same without waiting: for a bridge that nobody has any more.
    pub fn close_when_dropped(&self, py: Python<'_>) {
        self.ending_runners(py).1.iter().for_each(|runner| runner.begin_closing(py));
        if let Err(error) = loops_of_thread::close(py, self) {
            let _ = signals::keep(py, error);
        }
        signals::pass_on(py);
    }

    /// Gives no more runners out. Returns those that were told to end, and those that are to be told.
    fn ending_runners(&self, py: Python<'_>) -> (Vec<Arc<Runner>>, Vec<Arc<Runner>>) {
        let untold = self.registry().close();
        let attached = self.attached.iter().filter(|runner| runner.takes_calls()).map(Arc::clone);
        let mut told: Vec<_> = attached.collect();
        for runner in &told {
            runner.begin_closing(py);
            runner.lose_if_it_stands(py);
        }
        // Runners that are being started end by themselves, so they are waited for. One whose thread does not run yet
        // will never begin.
        told.extend(self.loops.starting.take().into_iter().filter(|runner| runner.has_begun()));
        // Those that an earlier close has told may not have ended yet: one that closed the bridge from its own thread,
        // or one that another thread still waits for.
        let mut all = take(&self.loops.closing);
        all.extend(told);
        let (ours, parents): (Vec<_>, Vec<_>) = all.into_iter().partition(|runner| runner.epoch == process::epoch());
        std::mem::forget(parents);
        let mut seen: HashSet<_> = untold.iter().map(Arc::as_ptr).collect();
        told = ours.into_iter().filter(|runner| !runner.has_ended() && seen.insert(Arc::as_ptr(runner))).collect();
        drop(replace(&self.loops.closing, told.iter().chain(&untold).map(Arc::clone).collect()));
        (told, untold)
    }

    /// Tells the threads that have loops of their own for this bridge to end them. Returns the loops to wait for: those
    /// that another thread is driving.
    fn begin_closing_own_loops(&self, py: Python<'_>) -> Vec<Arc<CallerLoop>> {
        let mine = loops_of_thread::known(self);
        let is_mine = |own: &Arc<CallerLoop>| mine.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, own));
        let mut driven = Vec::new();
        for own in self.loops.own.alive() {
            if own.epoch != process::epoch() {
                std::mem::forget(own);
                continue;
            }
            own.begin_closing(py);
            if own.is_busy() && !is_mine(&own) {
                driven.push(own);
            }
        }
        // A thread that drives a loop itself must not wait for such threads: they may wait for it, or close the bridge
        // as well.
        if mine.is_some_and(|mine| mine.is_busy()) || current_runner().is_some() { Vec::new() } else { driven }
    }
}
