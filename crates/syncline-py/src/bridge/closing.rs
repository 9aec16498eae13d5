//! How a bridge is closed.

use super::caller_loop::CallerLoop;
use super::loops_of_thread;
use super::shared::Shared;
use crate::call::ends::wait_for_ends;
use crate::python::process;
use crate::python::residents::Resident;
use crate::python::signals;
use crate::runner::state::{Runner, current_runner};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::Instant;
use syncline_core::sync::{lock, replace, take};

impl Shared {
    /// Tells all loops to end, and waits for that. A second close waits for the same loops.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, SeqCst);
        let begun = Instant::now();
        let runners = self.begin_closing_runners(py);
        let own_loops = self.begin_closing_own_loops(py);
        let here = current_runner();
        let runs_here = self.terms.is_onto_this(py);
        // A thread can't wait for its own end, nor for the end of a runner that waits for this thread.
        let can_wait = |runner: &Arc<Runner>| !here.as_ref().is_some_and(|here| runner.node.leads_to(&here.node));
        let mut ending: Vec<Arc<dyn Resident>> = Vec::new();
        ending.extend(
            runners
                .into_iter()
                .filter(|runner| !runs_here && can_wait(runner))
                .map(|runner| runner as Arc<dyn Resident>),
        );
        ending.extend(own_loops.into_iter().map(|own| own as Arc<dyn Resident>));
        let ended = wait_for_ends(py, ending, begun);
        let closed = loops_of_thread::close(py, self);
        // What was kept is this operation's, whatever else it raises.
        signals::check(py).and(ended).and(closed)
    }

    /// The same without waiting: for a bridge that nobody has any more.
    pub fn close_when_dropped(&self, py: Python<'_>) {
        self.begin_closing_runners(py);
        if let Err(error) = loops_of_thread::close(py, self) {
            let _ = signals::keep(py, error);
        }
        signals::pass_on(py);
    }

    fn begin_closing_runners(&self, py: Python<'_>) -> Vec<Arc<Runner>> {
        let mut told = self.registry().close();
        told.extend(self.attached.iter().filter(|runner| runner.takes_calls()).map(Arc::clone));
        for runner in &told {
            runner.begin_closing(py);
            runner.lose_if_it_stands(py);
        }
        // Runners that are being started end by themselves, so they are waited for. One whose thread does not run yet
        // will never begin.
        let starting = take(&self.starting);
        told.extend(starting.iter().filter_map(Weak::upgrade).filter(|runner| runner.has_begun()));
        // Those that an earlier close has told may not have ended yet: one that closed the bridge from its own thread,
        // or one that another thread still waits for.
        let mut all = take(&self.closing);
        all.extend(told);
        let (ours, parents): (Vec<_>, Vec<_>) = all.into_iter().partition(|runner| runner.epoch == process::epoch());
        std::mem::forget(parents);
        let mut ending: Vec<_> = ours.into_iter().filter(|runner| !runner.has_ended()).collect();
        ending.sort_by_key(Arc::as_ptr);
        ending.dedup_by_key(|runner| Arc::as_ptr(runner));
        drop(replace(&self.closing, ending.clone()));
        ending
    }

    /// Tells the threads that have loops of their own for this bridge to end them. Returns the loops to wait for: those
    /// that another thread is driving.
    fn begin_closing_own_loops(&self, py: Python<'_>) -> Vec<Arc<CallerLoop>> {
        let all: Vec<_> = lock(&self.own_loops).iter().filter_map(Weak::upgrade).collect();
        let mine = loops_of_thread::known(self);
        let is_mine = |own: &Arc<CallerLoop>| mine.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, own));
        let mut driven = Vec::new();
        for own in all {
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
