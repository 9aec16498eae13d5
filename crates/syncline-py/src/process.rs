//! The process's own life: fork, exit, and what is known about all runners.
//!
//! Invariants:
//! 1. A forked child never touches its parent's loops: not their locks (a thread may have held one), not their epoll
//!    descriptors (they are the parent's, shared), not even by freeing them. Runners carry the epoch they belong to.
//! 2. Once `EXITING` is set no thread is started: calls run in the calling thread.
//! 3. Once `LEFT` is set no worker thread of ours attaches. 4. Which thread is the main one is found out without running
//!    Python code: that could run a signal handler.

use crate::names;
use crate::own::OwnLoop;
use crate::runner::{Feeder, Runner};
use crate::switch::greenlets;
use crate::thread_end;
use pyo3::exceptions::{PyImportError, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};

static EPOCH: AtomicU32 = AtomicU32::new(0);
/// Python's identifier of the main thread (by 4).
static MAIN: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static EXITING: AtomicBool = AtomicBool::new(false);
static LEFT: AtomicBool = AtomicBool::new(false);
static OWN: Mutex<Vec<Weak<OwnLoop>>> = Mutex::new(Vec::new());
static ALL: Mutex<Vec<Weak<Runner>>> = Mutex::new(Vec::new());
/// Only ever locked while attached, as `ALL`: what Python code reads there holds until it lets others run.
static LONG_WAITS: Mutex<Vec<(u64, u64, u64)>> = Mutex::new(Vec::new());
static NEXT_WAIT: AtomicU64 = AtomicU64::new(1);

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

/// Adds a runner to those that are closed at exit.
pub fn remember(runner: &Arc<Runner>) {
    let mut all = lock(&ALL);
    all.retain(|known| known.strong_count() > 0);
    all.push(Arc::downgrade(runner));
}

/// Adds a thread's own loop to those that are stopped at exit.
pub fn remember_own(own: &Arc<OwnLoop>) {
    let mut all = lock(&OWN);
    all.retain(|known| known.strong_count() > 0);
    all.push(Arc::downgrade(own));
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

/// At exit only daemon threads are left besides the main one. They end here, without a traceback.
pub fn end_daemon_thread(py: Python<'_>) -> PyResult<()> {
    if is_exiting() && !is_main_thread(py) { Err(PySystemExit::new_err(())) } else { Ok(()) }
}

fn alive() -> Vec<Arc<Runner>> {
    lock(&ALL).iter().filter_map(Weak::upgrade).filter(|runner| !runner.has_ended()).collect()
}

fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: attached, so there is a current interpreter.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above; it is alive.
    unsafe { ffi::PyInterpreterState_GetID(interpreter) == 0 }
}

pub fn install(py: Python<'_>) -> PyResult<()> {
    if !is_main_interpreter(py) {
        // As Python 3.12 and later say by themselves.
        return Err(PyImportError::new_err("module syncline._core does not support loading in subinterpreters"));
    }
    MAIN.store(main_ident(py)?, Relaxed);
    let after_fork = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        // By 1. `ALL` itself is only ever locked while attached, so no other thread held it at the fork.
        let orphans = std::mem::take(&mut *lock(&ALL));
        for runner in orphans.iter().filter_map(Weak::upgrade) {
            std::mem::forget(runner);
        }
        lock(&OWN).clear();
        lock(&LONG_WAITS).clear();
        INSIDE.store(0, SeqCst);
        EPOCH.fetch_add(1, Release);
        greenlets::after_fork();
        // The thread that forked is the child's main one.
        MAIN.store(own_ident(args.py())?, Relaxed);
        Ok(())
    };
    let at_exit = |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| close_all(args.py());
    let options = PyDict::new(py);
    options
        .set_item("after_in_child", PyCFunction::new_closure(py, Some(c"syncline_after_fork"), None, after_fork)?)?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        os.call_method("register_at_fork", (), Some(&options))?;
    }
    let at_exit = PyCFunction::new_closure(py, Some(c"syncline_at_exit"), None, at_exit)?;
    // From a frame of Python's: uvloop in debug mode looks for its caller's, and on Python 3.15 fails where there is none.
    let from_python = py.eval(c"lambda close: close()", Some(&PyDict::new(py)), None)?;
    py.import("atexit")?.call_method1("register", (from_python, at_exit)).map(drop)
}

fn close_all(py: Python<'_>) -> PyResult<()> {
    // Later on it can't be asked any more: atexit runs in the main thread.
    IS_MAIN.set(Some((epoch(), true)));
    EXITING.store(true, SeqCst);
    stop_own_loops(py);
    let runners = alive();
    for runner in &runners {
        runner.begin_closing(py);
    }
    let begun = Instant::now();
    for runner in &runners {
        runner.free_waiters(py, begun);
    }
    for runner in &runners {
        runner.finish_closing(py, begun)?;
    }
    thread_end::run_now(py);
    LEFT.store(true, SeqCst);
    wait_until_none_is_inside(py, Duration::from_secs(1));
    Ok(())
}

fn wait_until_none_is_inside(py: Python<'_>, longest: Duration) {
    let deadline = Instant::now() + longest;
    // A poll and not an event: calls would pay for it, and this happens once.
    py.detach(|| {
        while INSIDE.load(SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Makes daemon threads leave the loops that they drive themselves.
fn stop_own_loops(py: Python<'_>) {
    let busy: Vec<_> =
        lock(&OWN).iter().filter_map(Weak::upgrade).filter(|own| own.is_busy() && own.epoch == epoch()).collect();
    for own in &busy {
        own.stop_from_outside(py);
    }
    let cleanup = busy.iter().map(|own| own.cleanup).max().unwrap_or_default();
    wait_until_none_is_inside(py, cleanup + Duration::from_secs(1));
}

/// Maps `id(loop)` to words for it, and its scope, for every loop of ours.
pub fn loop_owners(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let owners = PyDict::new(py);
    for runner in alive() {
        if let Some(event_loop) = runner.event_loop(py) {
            owners.set_item(event_loop.as_ptr() as usize, (runner.description(), runner.scope()))?;
        }
    }
    let own: Vec<_> = lock(&OWN).iter().filter_map(Weak::upgrade).collect();
    for own in own {
        if let Some(address) = own.address() {
            owners.set_item(address, (format!("a thread's own loop of the bridge {:?}", own.name), "caller"))?;
        }
    }
    Ok(owners)
}

/// A wait that has gone on for a while: its number, the thread that waits, and that of the loop which it waits for. Made
/// and dropped attached.
pub struct LongWait(u64, u64, u64);

impl LongWait {
    pub fn begin(py: Python<'_>, loop_thread: u64) -> PyResult<Self> {
        let wait = Self(NEXT_WAIT.fetch_add(1, Relaxed), own_ident(py)?, loop_thread);
        lock(&LONG_WAITS).push((wait.0, wait.1, wait.2));
        Ok(wait)
    }

    /// Why the loop's thread can't go on before the waiting one does, if that is so.
    pub fn is_blocked(&self, py: Python<'_>) -> PyResult<Option<String>> {
        py.import("syncline._diagnosis")?.getattr("blocked_on_lock")?.call1((self.2, self.1))?.extract()
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        lock(&LONG_WAITS).retain(|wait| wait.0 != self.0);
    }
}

/// Maps each thread that has waited for a while to its wait's number and the thread of the loop that it waits for.
#[pyfunction]
pub fn long_waits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let waits = PyDict::new(py);
    let all = lock(&LONG_WAITS).clone();
    for (number, waiter, loop_thread) in all {
        waits.set_item(waiter, (number, loop_thread))?;
    }
    Ok(waits)
}

/// Looks whether the calling thread, which waits for a call on `runner`, can ever be woken. Returns the report if not.
pub fn find_deadlock(
    py: Python<'_>,
    runner: &Runner,
    wait: &LongWait,
    has_stood_still: bool,
) -> PyResult<Option<String>> {
    if (runner.feeder() == Feeder::Callback || (has_stood_still && !runner.is_asleep()))
        && let Some(report) = wait.is_blocked(py)?
    {
        return Ok(Some(report));
    }
    if !has_stood_still || !runner.is_asleep() {
        return Ok(None);
    }
    let (Some(waiting), Some(ours)) = (names::running_loop(py)?, runner.event_loop(py)) else { return Ok(None) };
    let needed = py.import("syncline._diagnosis")?.getattr("blocked_loop_is_needed")?;
    needed.call1((waiting, ours, wait.0))?.extract()
}
