//! The loops that bridges have for one thread: its own loops (scope "caller") and its runners (scope "thread"). They
//! end when the thread ends.

use super::caller_loop::CallerLoop;
use super::shared::Shared;
use crate::call::ends::wait_for_ends_quietly;
use crate::python::leaky::Leaky;
use crate::python::log;
use crate::python::names;
use crate::python::process;
use crate::python::residents::Resident;
use crate::python::thread_end::Deferred;
use crate::python::threads::thread_key;
use crate::runner::key::RunnerKey;
use crate::runner::state::Runner;
use crate::task::new_loop;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// After a call that raised: if somebody has closed its loop, or the loop's selector, nothing can run there any more, and the
/// thread's next call makes another one.
pub fn leave_if_it_was_closed(py: Python<'_>, own: &CallerLoop, error: &PyErr) {
    let may_be = error.is_instance_of::<PyRuntimeError>(py)
        || error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyOSError>(py);
    let Some(event_loop) = Resident::event_loop(own, py).filter(|_| may_be) else { return };
    if new_loop::was_closed(&event_loop) || new_loop::lost_its_selector(&event_loop) {
        own.leave(py);
        let message = format!(
            "the loop of a thread, which belongs to the bridge {:?}, or its selector was closed by somebody else; what ran there \
             is lost, and the thread's next call makes another one; leave that to the bridge's close()",
            &*own.name
        );
        log::log(py, "error", &message, None);
    }
}

/// What one bridge has for this thread.
struct OfBridge {
    bridge: u64,
    shared: Weak<Shared>,
    what: Loop,
}

enum Loop {
    Own(Arc<CallerLoop>),
    Runner(Weak<Runner>),
}

impl Loop {
    fn epoch(&self) -> u32 {
        match self {
            Self::Own(own) => own.epoch,
            Self::Runner(runner) => runner.upgrade().map_or_else(process::epoch, |runner| runner.epoch),
        }
    }

    /// Whether it has ended, or nobody can use it any more.
    fn is_over(&self, shared: &Weak<Shared>) -> bool {
        let is_unused = shared.upgrade().is_none_or(|shared| shared.is_closed());
        match self {
            Self::Own(own) => !own.is_open() || (is_unused && !own.is_busy()),
            Self::Runner(runner) => runner.upgrade().is_none_or(|runner| runner.has_ended()),
        }
    }

    fn end(self, py: Python<'_>, shared: &Weak<Shared>) {
        match self {
            Self::Own(own) => own.close_quietly(py),
            Self::Runner(runner) => {
                let Some(runner) = runner.upgrade() else { return };
                let begun = Instant::now();
                runner.begin_closing(py);
                if let Some(shared) = shared.upgrade() {
                    let key = RunnerKey::Thread(thread_key());
                    shared.registry().forget(&key, |known| Arc::ptr_eq(known, &runner));
                }
                let resident: Arc<dyn Resident> = runner;
                wait_for_ends_quietly(py, vec![resident], begun);
            }
        }
    }
}

thread_local! {
    static HERE: Leaky<Vec<OfBridge>> = const { Leaky::new() };
    /// The bridges for which this thread makes a loop.
    static MAKING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static END: Deferred = const { Deferred::new() };
}

/// While it lives, this thread makes a loop for that bridge, which runs the code of a `loop_factory`, and signal
/// handlers.
pub struct Making(u64);

impl Making {
    pub fn begin(shared: &Shared) -> Self {
        MAKING.with_borrow_mut(|making| making.push(shared.terms.bridge));
        Self(shared.terms.bridge)
    }

    pub fn is_under_way(shared: &Shared) -> bool {
        MAKING.with_borrow(|making| making.contains(&shared.terms.bridge))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        MAKING.with_borrow_mut(|making| making.retain(|bridge| *bridge != self.0));
    }
}

fn take(which: impl Fn(&OfBridge) -> bool) -> Vec<OfBridge> {
    HERE.with(|here| {
        here.with(|known| {
            let known = known.get_or_insert_with(Vec::new);
            known.extract_if(.., |each| which(each)).collect()
        })
    })
}

/// In a forked child, drops the parent's loops from the list without closing or freeing them.
fn forget_parents() {
    std::mem::forget(take(|each| each.what.epoch() != process::epoch()));
}

fn add(py: Python<'_>, shared: &Arc<Shared>, what: Loop) -> PyResult<()> {
    forget_parents();
    // Ends what is left of bridges that are closed or gone: a thread that lives on would keep it for ever.
    let is_free = names::running_loop(py)?.is_none();
    for each in take(|each| is_free && each.what.is_over(&each.shared)) {
        each.what.end(py, &each.shared);
    }
    let entry = OfBridge { bridge: shared.terms.bridge, shared: Arc::downgrade(shared), what };
    HERE.with(|here| here.with(|known| known.get_or_insert_with(Vec::new).push(entry)));
    END.with(|end| end.ensure(py, end_all))
}

fn end_all(py: Python<'_>) {
    END.with(Deferred::forget);
    forget_parents();
    for each in take(|_| true) {
        each.what.end(py, &each.shared);
    }
}

/// Ends the loops that this thread drives itself, except those that it is driving at the moment.
pub fn end_own(py: Python<'_>) {
    forget_parents();
    for each in take(|each| matches!(&each.what, Loop::Own(own) if !own.is_busy())) {
        each.what.end(py, &each.shared);
    }
}

/// Keeps a loop for this thread's calls through that bridge.
pub fn keep(py: Python<'_>, shared: &Arc<Shared>, own: &Arc<CallerLoop>) -> PyResult<()> {
    drop(take(|each| each.bridge == shared.terms.bridge && each.what.epoch() == process::epoch()));
    add(py, shared, Loop::Own(Arc::clone(own)))
}

/// Has the runner end with this thread.
pub fn note_runner(py: Python<'_>, shared: &Arc<Shared>, runner: &Arc<Runner>) -> PyResult<()> {
    let is_it = |each: &OfBridge| matches!(&each.what, Loop::Runner(known) if std::ptr::eq(known.as_ptr(), &**runner));
    let is_known = HERE.with(|here| here.with(|known| known.as_ref().is_some_and(|known| known.iter().any(is_it))));
    if is_known { Ok(()) } else { add(py, shared, Loop::Runner(Arc::downgrade(runner))) }
}

/// Whether the bridge has had a runner for this thread.
pub fn has_runner(shared: &Shared) -> bool {
    let is_its = |each: &OfBridge| each.bridge == shared.terms.bridge && matches!(each.what, Loop::Runner(_));
    HERE.with(|here| here.with(|known| known.as_ref().is_some_and(|known| known.iter().any(is_its))))
}

/// The loop that the bridge has for this thread to drive.
pub fn known(shared: &Shared) -> Option<Arc<CallerLoop>> {
    HERE.with(|here| {
        here.with(|known| {
            known.as_ref()?.iter().find_map(|each| match &each.what {
                Loop::Own(own) if each.bridge == shared.terms.bridge && own.epoch == process::epoch() => {
                    Some(Arc::clone(own))
                }
                _ => None,
            })
        })
    })
}

/// Closes this thread's own loop of the bridge, if no loop runs here. Otherwise it is closed later: at the end of the
/// call that drives it, at this thread's next call, or when the thread ends.
pub fn close(py: Python<'_>, shared: &Shared) -> PyResult<()> {
    forget_parents();
    let Some(own) = known(shared) else { return Ok(()) };
    if own.is_busy() || names::running_loop(py).map_or(true, |running| running.is_some()) {
        return Ok(());
    }
    drop(take(|each| matches!(&each.what, Loop::Own(known) if Arc::ptr_eq(known, &own))));
    own.close(py)
}
