//! How a loop of uvloop's gets its mail: by handles of libuv (uv.rs), which do there what our selector does in asyncio.
//!
//! Before the loop sleeps, results are published, and it spins for mail. A sender wakes it without the interpreter.
//!
//! Invariants:
//! 1. When `before_sleep` is over, the mailbox is parked, so that the next sender wakes the loop; or the loop is kept
//!    awake, and comes back here after it has looked for events. So mail never keeps descriptors and timers waiting for
//!    longer than one batch of mail, or one spin, takes.
//! 2. libuv calls us detached, and PyO3 does not know of that: where a greenlet is parked in this thread, it takes the
//!    thread for attached. So nothing that PyO3 does may happen here before `attached`, and no Python object is freed.
//! 3. In a forked child nothing is done but to let the loop sleep: it is the parent's. The thread that forked goes on
//!    in it, and may have been in a turn for which it was kept awake.

use super::state::{Feeder, Runner, current_runner};
use super::uv::Handles;
use crate::python::log;
use crate::python::process;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use syncline_core::spin::current_cpu;
use syncline_core::sync::{lock, take};

thread_local! {
    /// Those of the loop that this thread drives. A child has them without a lock, which a thread may have held that it
    /// doesn't have.
    static HANDLES: Cell<Option<Handles>> = const { Cell::new(None) };
}

/// Feeds the runner's loop by handles, if it is one that has them; on the loop's thread.
pub fn begin(runner: &Runner, event_loop: &Bound<'_, PyAny>) {
    if let Some(handles) = Handles::open(event_loop, before_sleep, woken) {
        HANDLES.set(Some(handles));
        runner.feed_by(handles);
    }
}

unsafe extern "C" fn before_sleep(_: *mut c_void) {
    let Some(handles) = HANDLES.get() else { return };
    handles.let_sleep();
    // By 3, this thread has no runner in a child.
    let Some(runner) = current_runner() else { return };
    runner.begin_turn();
    let published = publish(&runner);
    runner.loop_cpu.store(current_cpu(), Relaxed);
    let has_mail = if handles.is_at_rest() { runner.spin_for_mail(published) } else { runner.mailbox.has_mail() };
    // By 1.
    if (has_mail || !runner.mailbox.park()) && see_to_mail(&runner) {
        handles.keep_awake();
    }
}

unsafe extern "C" fn woken(_: *mut c_void) {
    if let Some(runner) = current_runner().filter(|runner| runner.mailbox.has_mail()) {
        see_to_mail(&runner);
    }
}

/// Turns mail into tasks, and publishes what they have come to. False in a child that one of them has forked (by 3).
fn see_to_mail(runner: &Arc<Runner>) -> bool {
    let detached_until = Instant::now();
    attached(|py| {
        drop(take(&runner.published));
        let attach_took = detached_until.elapsed();
        runner.loop_spin.note_attach(attach_took);
        runner.outbox.hurry(attach_took);
        if let Err(error) = runner.see_to_mail(py) {
            log::log(py, "error", "the loop could not see to its mail", Some(&error));
        }
    });
    if runner.epoch != process::epoch() {
        return false;
    }
    let _ = publish(runner);
    true
}

/// Publishes results, and returns how many. By 2 they are dropped with the next mail: without mail there is no result.
fn publish(runner: &Runner) -> usize {
    runner.outbox.flush_to(|result| lock(&runner.published).push(result))
}

/// Attaches, whatever PyO3 thinks (by 2).
fn attached(act: impl FnOnce(Python<'_>)) {
    let inside = process::come_back();
    // SAFETY: the interpreter is there, as `come_back` has returned.
    let state = unsafe { ffi::PyGILState_Ensure() };
    Python::try_attach(|py| {
        drop(inside);
        act(py);
    });
    // SAFETY: the state of the call above, in the same thread.
    unsafe { ffi::PyGILState_Release(state) };
}

/// Ends what `begin` has begun, before the loop is closed; on the loop's thread.
pub fn end(runner: &Runner) {
    if runner.feeder() == Feeder::Handles {
        runner.outbox.stop_deferring();
        let _ = runner.outbox.flush();
        drop(take(&runner.published));
        HANDLES.set(None);
        if let Some(handles) = runner.take_handles() {
            handles.close();
        }
    }
}
