//! The state of the process: which fork of it this is, which thread is the main one, whether it is about to exit, and who
//! runs code below frames of ours.
//!
//! Invariants:
//! 1. Everything that belongs to one process carries its epoch: a forked child never touches its parent's loops: not their
//!    locks (a thread may have held one), not their descriptors (they are shared), not even by freeing them.
//! 2. Once `EXITING` is set no thread is started: calls run in the calling thread.
//! 3. Once `LEFT` is set no worker thread of ours attaches. 4. Which thread is the main one is found out without running
//!    Python code: that could run a signal handler.

use crate::python::names;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

static EPOCH: AtomicU32 = AtomicU32::new(0);
/// Python's identifier of the main thread (by 4).
static MAIN: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static EXITING: AtomicBool = AtomicBool::new(false);
static LEFT: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_MAIN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// How many forks lie between this process and the one that imported syncline.
pub fn epoch() -> u32 {
    EPOCH.load(Acquire)
}

pub fn is_exiting() -> bool {
    EXITING.load(Acquire)
}

/// Whether this is the thread in which Python runs signal handlers.
pub fn is_main_thread(py: Python<'_>) -> bool {
    if let Some((epoch, is_main)) = IS_MAIN.get()
        && epoch == self::epoch()
    {
        return is_main;
    }
    let is_main = own_ident(py).is_ok_and(|ident| ident == MAIN.load(Relaxed));
    IS_MAIN.set(Some((epoch(), is_main)));
    is_main
}

/// The identifier of the main thread, found without importing `threading`, which takes long.
fn main_ident(py: Python<'_>) -> PyResult<u64> {
    // Python 3.13 and later.
    if let Ok(ident) = py.import("_thread")?.getattr("_get_main_thread_ident") {
        return ident.call0()?.extract();
    }
    let modules = py.import("sys")?.getattr("modules")?;
    match modules.get_item("threading") {
        Ok(threading) => threading.call_method0("main_thread")?.getattr("ident")?.extract(),
        // `threading` itself takes the thread that imports it for the main one.
        Err(_) => own_ident(py),
    }
}

fn own_ident(py: Python<'_>) -> PyResult<u64> {
    names::get_ident(py)?.call0()?.extract()
}

/// Python code runs below frames of ours: the exit waits until it has returned. Before Python 3.14 the interpreter kills
/// a daemon thread by unwinding its stack, and frames of Rust can't be unwound.
pub struct Inside(u32);

impl Drop for Inside {
    fn drop(&mut self) {
        // A fork inside has set the child's count to nothing.
        if self.0 == epoch() {
            INSIDE.fetch_sub(1, SeqCst);
        }
    }
}

/// Refuses daemon threads once the exit has begun.
pub fn enter(py: Python<'_>) -> PyResult<Inside> {
    INSIDE.fetch_add(1, SeqCst);
    let inside = Inside(epoch());
    // Counted first: either the exit sees us, or we see it.
    end_daemon_thread(py)?;
    Ok(inside)
}

/// As `enter`, for a worker thread that has something to hand over still.
pub fn step_inside() -> Inside {
    INSIDE.fetch_add(1, SeqCst);
    Inside(epoch())
}

/// Whether the exit has come so far that no worker thread attaches any more.
pub fn has_left() -> bool {
    LEFT.load(SeqCst)
}

/// As `step_inside`, for a thread that drives a loop which is not ours, and so is not closed at exit. A daemon thread
/// goes no further once the exit has come far enough: it could be ended below frames of ours.
pub fn step_inside_unless_left(py: Python<'_>) -> Inside {
    let inside = step_inside();
    if !has_left() || is_main_thread(py) {
        return inside;
    }
    drop(inside);
    py.detach(stay_for_ever)
}

fn stay_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// For a worker thread that is about to attach. If the interpreter is going down it stays where it is, for ever: there
/// is nothing to attach to.
pub fn come_back() -> Inside {
    let inside = step_inside();
    // Counted first, as in `enter`.
    if !has_left() {
        return inside;
    }
    drop(inside);
    stay_for_ever()
}

/// Sleeps detached. A thread that is not the main one comes back only where there is an interpreter to come back to.
pub fn sleep<T: Send>(py: Python<'_>, asleep: impl FnOnce() -> T + Send) -> T {
    let is_main = is_main_thread(py);
    let (woken, back) = py.detach(|| {
        let woken = asleep();
        (woken, (!is_main).then(come_back))
    });
    drop(back);
    woken
}

/// At exit only daemon threads are left besides the main one. They end here, without a traceback.
pub fn end_daemon_thread(py: Python<'_>) -> PyResult<()> {
    if is_exiting() && !is_main_thread(py) { Err(PySystemExit::new_err(())) } else { Ok(()) }
}

/// Notes which thread is the main one, at the import.
pub fn find_main_thread(py: Python<'_>) -> PyResult<()> {
    MAIN.store(main_ident(py)?, Relaxed);
    Ok(())
}

/// For a forked child: nobody of the parent is inside here, and the thread that forked is the main one.
pub fn begin_child(py: Python<'_>) -> PyResult<()> {
    INSIDE.store(0, SeqCst);
    EPOCH.fetch_add(1, Release);
    MAIN.store(own_ident(py)?, Relaxed);
    Ok(())
}

/// The exit begins; in the main thread, which can't be asked for later on.
pub fn begin_exit() {
    IS_MAIN.set(Some((epoch(), true)));
    EXITING.store(true, SeqCst);
}

/// By 3.
pub fn leave() {
    LEFT.store(true, SeqCst);
}

pub fn wait_until_none_is_inside(py: Python<'_>, longest: Duration) {
    let deadline = Instant::now() + longest;
    // A poll and not an event: calls would pay for it, and this happens once.
    py.detach(|| {
        while INSIDE.load(SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
