//! The state of the process: which fork of it this is, which thread is the main one, how far its exit has come, and
//! how many threads are *inside*: in our code, which calls Python code or is about to.
//!
//! Invariants:
//! 1. What belongs to one process carries its epoch. A forked child never touches its parent's loops: not their locks
//!    (a thread may have held one), not their descriptors (they are shared), and it does not even free their memory.
//! 2. Once `EXITING` is set, no thread is started: calls run in the calling thread.
//! 3. Once `LEFT` is set, no thread attaches by `come_back` any more, as workers and sleeping callers do: the
//!    interpreter may be gone.
//! 4. Which thread is the main one is found out without running Python code, since a signal handler could run then.
//! 5. C code may fork so that no handler runs (`_Fork`, the system call itself). The kernel tells of those, too: it
//!    clears the mark (`marked`), and whoever asks for the epoch first begins the child's.

use crate::python::errors;
use crate::python::names;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};
use syncline_core::sync::{Mutex, lock};

static EPOCH: AtomicU32 = AtomicU32::new(0);
/// The last epoch that Python knows of.
static HEARD: AtomicU32 = AtomicU32::new(0);
/// Python's identifier of the main thread (by 4).
static MAIN: AtomicU64 = AtomicU64::new(0);
/// How many threads are inside (see `Inside`).
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// The exit has begun (see 2).
static EXITING: AtomicBool = AtomicBool::new(false);
/// The exit has done all that is ours (see 3).
static LEFT: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this is the main thread, and the epoch in which that was found out: a fork may have changed it.
    static IS_MAIN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    /// Whether this thread is one of ours: see `serve`.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread is one of ours (`frames::serve`).
pub fn serve() {
    SERVES.set(true);
}

/// Keeps an object alive for ever: for what a forked child has of its parent, and must not finalize.
#[pyfunction]
#[pyo3(signature = (kept, /))]
pub fn keep_for_ever(kept: Py<PyAny>) {
    std::mem::forget(kept);
}

/// How many forks lie between this process and the one that imported syncline, or more.
#[pyfunction]
pub fn epoch() -> u32 {
    if marked().load(Acquire) != MARKED {
        begin_unheard_child();
    }
    EPOCH.load(Acquire)
}

/// Whether C code has forked this process, and Python was not told.
pub fn is_unheard_child() -> bool {
    epoch() != HEARD.load(Acquire)
}

pub fn is_exiting() -> bool {
    EXITING.load(Acquire)
}

/// Whether the program has ended by now: this is the main thread, which Python counts as stopped then, or the exit has begun.
pub fn has_program_ended(py: Python<'_>) -> bool {
    let is_alive = || names::current_thread(py)?.call0()?.call_method0("is_alive")?.is_truthy();
    is_exiting() || (is_main_thread(py) && !is_alive().unwrap_or(true))
}

/// Whether this is what a call raised because the exit refused it or cut it short. Nobody is to be told of that.
pub fn has_refused(py: Python<'_>, error: &PyErr) -> bool {
    is_exiting() && errors::are_of_closing(py, error)
}

/// Whether this is the thread in which Python runs signal handlers.
pub fn is_main_thread(py: Python<'_>) -> bool {
    if let Some((epoch, is_main)) = IS_MAIN.get()
        && epoch == self::epoch()
    {
        return is_main;
    }
    let is_main = names::thread_ident(py).is_ok_and(self::is_main);
    IS_MAIN.set(Some((epoch(), is_main)));
    is_main
}

/// Whether that is the main thread's identifier.
pub fn is_main(thread: u64) -> bool {
    thread == MAIN.load(Relaxed)
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
        // `threading` is not imported. It will take the thread that imports it for the main one; we take this one.
        Err(_) => names::thread_ident(py),
    }
}

/// While it lives, Python code may run that frames of ours have called, and the exit waits for its drop. Before
/// Python 3.14 the interpreter kills daemon threads by unwinding their stacks, which frames of Rust do not survive.
pub struct Inside(u32);

impl Drop for Inside {
    fn drop(&mut self) {
        // If the process was forked meanwhile, the child has set its count to zero, and does not count us.
        if self.0 == epoch() {
            INSIDE.fetch_sub(1, SeqCst);
        }
    }
}

/// Counts the calling thread as inside. Raises in a daemon thread if the exit has begun: see `end_daemon_thread`.
pub fn enter(py: Python<'_>) -> PyResult<Inside> {
    let inside = step_inside();
    // Counted first: either the exit sees our count, or we see that it has begun.
    end_daemon_thread(py)?;
    Ok(inside)
}

/// As `enter`, for code that has to run to its end although the exit has begun: what a thread of ours has to hand
/// over, a loop that its thread drives.
pub fn step_inside() -> Inside {
    // Asked first: a child that begins its epoch here sets the count to zero (by 5).
    let inside = Inside(epoch());
    INSIDE.fetch_add(1, SeqCst);
    inside
}

/// Has a thread of its own, detached, do what this one can't at its recursion limit. False if there is no thread to be had.
pub fn in_another_thread(act: impl FnOnce() + Send + 'static) -> bool {
    let inside = step_inside();
    let run = move || {
        act();
        drop(inside);
    };
    std::thread::Builder::new().spawn(run).is_ok()
}

/// Whether `LEFT` is set (see 3).
pub fn has_left() -> bool {
    LEFT.load(SeqCst)
}

/// As `step_inside`, for a thread that drives a loop which is not ours, and so is not closed at exit. Once `LEFT` is
/// set, a thread that is not the main one stays here for ever: the interpreter could kill it below frames of ours.
pub fn step_inside_unless_left(py: Python<'_>) -> Inside {
    let inside = step_inside();
    if !has_left() || is_main_thread(py) {
        return inside;
    }
    drop(inside);
    py.detach(stay_for_ever)
}

/// The threads that stay for ever. Whoever waits for what they run waits in vain.
static STAYING: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Whether the thread with this identifier has stayed in our code for ever, as the exit was that far.
pub fn stays_for_ever(thread: u64) -> bool {
    has_left() && lock(&STAYING).contains(&thread)
}

pub fn stay_for_ever() -> ! {
    #[cfg(unix)]
    lock(&STAYING).push(own_ident());
    loop {
        std::thread::park();
    }
}

/// As `step_inside`, for a detached thread that is about to attach. By 3 it stays here for ever once `LEFT` is set:
/// there may be no interpreter any more.
pub fn come_back() -> Inside {
    let inside = step_inside();
    // Counted first, as in `enter`.
    if !has_left() {
        return inside;
    }
    drop(inside);
    stay_for_ever()
}

/// Runs `asleep` detached. A thread that is not the main one attaches again by `come_back`, and so may never return.
pub fn sleep<T: Send>(py: Python<'_>, asleep: impl FnOnce() -> T + Send) -> T {
    let is_main = is_main_thread(py);
    let (woken, back) = py.detach(|| {
        let woken = asleep();
        (woken, (!is_main).then(come_back))
    });
    drop(back);
    woken
}

/// Raises in a daemon thread once the exit has begun (only the main thread and daemon threads are left by then). A
/// thread of the user's ends by SystemExit, which shows no traceback. In one of ours, an error refuses the call.
pub fn end_daemon_thread(py: Python<'_>) -> PyResult<()> {
    if !is_exiting() || is_main_thread(py) {
        return Ok(());
    }
    Err(if SERVES.get() { errors::shutting_down() } else { PySystemExit::new_err(()) })
}

/// The error that refuses something to this thread; in a daemon thread, once the exit has begun, what ends that instead.
pub fn refused(py: Python<'_>, error: impl FnOnce() -> PyErr) -> PyErr {
    end_daemon_thread(py).err().unwrap_or_else(error)
}

/// Notes which thread is the main one, at the import.
pub fn find_main_thread(py: Python<'_>) -> PyResult<()> {
    MAIN.store(main_ident(py)?, Relaxed);
    hear_of_forks();
    Ok(())
}

/// For a forked child: the parent's other threads do not exist here, and the thread that forked is the main one.
pub fn begin_child(py: Python<'_>) -> PyResult<()> {
    begin_epoch();
    HEARD.store(epoch(), Release);
    MAIN.store(names::thread_ident(py)?, Relaxed);
    Ok(())
}

fn begin_epoch() {
    INSIDE.store(0, SeqCst);
    EPOCH.fetch_add(1, Release);
}

const FORKED: u32 = 0;
const MARKED: u32 = 1;
const BEGINS: u32 = 2;

/// Where the mark is, once there is memory that the kernel clears in a forked child (by 5).
static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

fn marked() -> &'static AtomicU32 {
    static ALWAYS: AtomicU32 = AtomicU32::new(MARKED);
    // SAFETY: null, or memory that `make_mark` has got for such a word, and that nobody gives back.
    unsafe { MARK.load(Acquire).as_ref() }.unwrap_or(&ALWAYS)
}

/// In a child that C code has forked without any handler, before anything of ours is used there. Of several threads that
/// the child has by now one begins the epoch, and the others wait for that.
#[cold]
fn begin_unheard_child() {
    if marked().compare_exchange(FORKED, BEGINS, SeqCst, SeqCst).is_err() {
        while marked().load(Acquire) == BEGINS {
            std::thread::yield_now();
        }
        return;
    }
    begin_epoch();
    #[cfg(target_os = "linux")]
    if rustix::thread::gettid() == rustix::process::getpid() {
        MAIN.store(own_ident(), Relaxed);
    }
    marked().store(MARKED, Release);
}

/// Without such memory, which Linux has since 4.14, only forks that run their handlers are heard of.
#[cfg(target_os = "linux")]
fn make_mark() {
    let size = size_of::<AtomicU32>(); // the kernel makes whole pages of it
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, wherever the kernel puts it.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if memory == libc::MAP_FAILED {
        return;
    }
    // SAFETY: the memory from above, of which nothing is in use.
    if unsafe { libc::madvise(memory, size, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: as above.
        let _ = unsafe { libc::munmap(memory, size) };
        return;
    }
    let mark = memory.cast::<AtomicU32>();
    // SAFETY: a page begins there, so the word is aligned, and zero is one of its values.
    unsafe { &*mark }.store(MARKED, Relaxed);
    MARK.store(mark, Release);
}

/// The identifier that Python has for this thread; without asking Python.
#[cfg(unix)]
fn own_ident() -> u64 {
    // SAFETY: it has no preconditions.
    let own = unsafe { libc::pthread_self() };
    #[allow(clippy::unnecessary_cast, reason = "a pointer on some systems")]
    return own as u64;
}

/// Registers a C handler for forks, since C code may fork without Python knowing of it.
#[cfg(unix)]
fn hear_of_forks() {
    extern "C" fn in_child() {
        begin_epoch();
        MAIN.store(own_ident(), Relaxed);
        marked().store(MARKED, Release);
    }
    #[cfg(target_os = "linux")]
    make_mark();
    // SAFETY: the handler uses atomics only, which is allowed in the child of a process with threads.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(unix))]
fn hear_of_forks() {}

/// The exit begins. This is the main thread, which is noted: to find that out may be impossible later on.
pub fn begin_exit() {
    IS_MAIN.set(Some((epoch(), true)));
    EXITING.store(true, SeqCst);
}

/// The exit has done all that is ours: see 3.
pub fn leave() {
    LEFT.store(true, SeqCst);
}

/// Whether the interpreter is being taken down: there are no greenlets any more.
pub fn is_finalizing(py: Python<'_>) -> PyResult<bool> {
    py.import("sys")?.call_method0("is_finalizing")?.is_truthy()
}

pub fn wait_until_none_is_inside(py: Python<'_>, longest: Duration) {
    let deadline = Instant::now() + longest;
    // Polls, since this happens only once. With an event, each call would have to pay for that.
    py.detach(|| {
        while INSIDE.load(SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
