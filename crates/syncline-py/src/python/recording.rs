//! The trace that this process records, if it does, and what each thread has of it. What is noted is in
//! [`tracing`](super::tracing).
//!
//! Invariants:
//! 1. What is off costs nothing: each place that notes something asks a state at which it looked anyway, or does so
//!    only for calls that were made while a trace was on.
//! 2. What has begun in one trace does not end in the next one: it remembers the number of its trace.
//! 3. A forked child has no trace. Its parent's is left alone, but for the file's descriptor, which is closed.
//! 4. What each call notes takes no lock, and changes no word that another thread uses: a lock costs as much as a look at the
//!    clock, and there are few of either.

use super::errors;
use super::names;
use super::once::intern;
use super::per_process::PerProcess;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use syncline_core::lane::Lane;
use syncline_core::sync::{Mutex, lock, replace, take};
use syncline_core::trace::Trace;
use syncline_core::trace_events::{Kind, Record, Text};

/// So many functions are told apart.
const MOST_NAMES: usize = 1 << 16;
/// So many functions, and so many words, a thread finds without a lock.
const MOST_SEEN: usize = 64;
const MOST_WORDS: usize = 8;
/// So many numbers for calls a thread takes at once.
const NUMBERS: u64 = 256;
/// The text of a function that is not known, or not yet.
pub const UNKNOWN: u32 = 0;
/// The text of the usual outcome: the first that `begin` makes.
pub const RETURNED: u32 = 1;

/// Whether anybody wants to hear of calls: a trace is on, or spans are made of them.
static WANTED: AtomicBool = AtomicBool::new(false);
/// The number of the trace that is on; 0 if none is.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static NEXT_CALL: AtomicU64 = AtomicU64::new(1);
static CURRENT: PerProcess<Option<Arc<Current>>> = PerProcess::new();

pub struct Current {
    pub number: u64,
    /// When it began, by `clock`.
    begun: u64,
    path: String,
    pub trace: Trace,
    pub names: Mutex<Names>,
}

#[derive(Default)]
pub struct Names {
    /// By the addresses of two objects, which `kept` keeps from being used again.
    pub known: HashMap<(usize, usize), u32>,
    pub kept: Vec<(Py<PyAny>, Py<PyAny>)>,
    words: HashMap<String, u32>,
}

/// What a thread has of the trace.
pub struct Here {
    /// The trace's, and when that began.
    number: u64,
    begun: u64,
    lane: Lane,
    current: Arc<Current>,
    pub outgoing: Outgoing,
    /// Some of `Names::known`, each at the place that its addresses give.
    seen: [((usize, usize), u32); MOST_SEEN],
    /// Some of `Names::words`.
    words: Vec<(String, u32)>,
    numbers: Range<u64>,
}

/// The call that this thread is about to send, or has sent, and for which it waits.
#[derive(Clone, Copy, Default)]
pub struct Outgoing {
    pub text: u32,
    /// Once it is sent.
    pub id: u64,
    /// When it was made; 0 if none is about to be sent.
    pub at: u64,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

impl Here {
    fn new(current: Arc<Current>, name: &str) -> Self {
        let lane = current.trace.lane(thread_number(), name);
        let seen = [((0, 0), UNKNOWN); MOST_SEEN];
        let (number, begun) = (current.number, current.begun);
        Self { number, begun, lane, current, outgoing: Outgoing::default(), seen, words: Vec::new(), numbers: 0..0 }
    }

    /// The time, as records have it.
    #[inline]
    pub fn now(&self) -> u64 {
        self.since(clock())
    }

    /// What `clock` said once, as records have it.
    #[inline]
    pub fn since(&self, clock: u64) -> u64 {
        clock.saturating_sub(self.begun)
    }

    #[inline]
    pub fn note(&mut self, kind: Kind, at: u64, id: u64, text: u32, other: u32) {
        self.lane.note(Record { kind, at, id, text, other });
    }

    pub fn new_id(&mut self) -> u64 {
        if self.numbers.is_empty() {
            let first = NEXT_CALL.fetch_add(NUMBERS, Relaxed);
            self.numbers = first..first + NUMBERS;
        }
        self.numbers.start += 1;
        self.numbers.start - 1
    }

    pub fn word(&mut self, word: &str) -> u32 {
        if let Some((_, known)) = self.words.iter().find(|(seen, _)| seen == word) {
            return *known;
        }
        let text = self.current.word(word);
        if self.words.len() < MOST_WORDS {
            self.words.push((word.to_owned(), text));
        }
        text
    }

    /// Notes a short slice in which `by` hands over a call of that text, and from which the arrow to it starts. Returns the
    /// call's number.
    pub fn hand_over(&mut self, by: &str, done: &str, text: u32) -> u64 {
        let (id, by, done) = (self.new_id(), self.word(by), self.word(done));
        let at = self.now();
        self.note(Kind::Call, at, 0, by, UNKNOWN);
        self.note(Kind::Sent, at, id, text, UNKNOWN);
        let at = self.now();
        self.note(Kind::CallEnd, at, 0, by, done);
        id
    }

    /// The text of the two objects at these addresses, if there is one; `UNKNOWN`, if there are too many.
    pub fn known(&mut self, key: (usize, usize)) -> Option<u32> {
        let place = &mut self.seen[(key.0 >> 4 ^ key.1 >> 5) % MOST_SEEN];
        if place.0 != key {
            let names = lock(&self.current.names);
            let known = names.known.get(&key).copied();
            *place = (key, known.or_else(|| (names.known.len() >= MOST_NAMES).then_some(UNKNOWN))?);
        }
        Some(place.1)
    }
}

impl Current {
    fn word(&self, word: &str) -> u32 {
        let mut names = lock(&self.names);
        if let Some(known) = names.words.get(word) {
            return *known;
        }
        let text = self.trace.text(Text::new(word, word));
        names.words.insert(word.to_owned(), text);
        text
    }
}

/// The number of the trace that is on, or 0.
#[inline]
pub fn number() -> u64 {
    NUMBER.load(Relaxed)
}

pub fn is_on() -> bool {
    number() != 0
}

#[inline]
pub fn is_wanted() -> bool {
    WANTED.load(Relaxed)
}

pub fn set_wanted(wanted: bool) {
    WANTED.store(wanted, Relaxed);
}

pub fn current() -> Option<Arc<Current>> {
    lock(CURRENT.get(|_| None)).clone()
}

/// Begins to record into that file. `now` is the time in nanoseconds, on the clock that the file is to have.
pub fn begin(path: &str, process: &str, now: u64) -> PyResult<u64> {
    if let Some(current) = current() {
        return Err(PyRuntimeError::new_err(format!(
            "a trace into {:?} is being recorded, and a process has one at a time; stop that one first",
            current.path
        )));
    }
    let file = File::create(path).map_err(|error| errors::of_file(error, path))?;
    let number = LAST.fetch_add(1, Relaxed) + 1;
    #[cfg(unix)]
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    let trace = Trace::begin(file, process, now)?;
    // Only now: if the writer could not be started, the file is closed.
    #[cfg(unix)]
    DESCRIPTOR.store(descriptor, Relaxed);
    trace.text(Text::new("returned", "returned"));
    let current = Current { number, begun: clock(), path: path.to_owned(), trace, names: Mutex::default() };
    drop(replace(CURRENT.get(|_| None), Some(Arc::new(current))));
    NUMBER.store(number, SeqCst);
    Ok(number)
}

/// Ends the trace of that number, if that is the one which is on; returns how many records it has lost.
pub fn end(py: Python<'_>, number: u64) -> PyResult<Option<u64>> {
    let current = {
        let mut current = lock(CURRENT.get(|_| None));
        if current.as_ref().is_some_and(|current| current.number == number) { current.take() } else { None }
    };
    let Some(current) = current else { return Ok(None) };
    NUMBER.store(0, SeqCst);
    #[cfg(unix)]
    DESCRIPTOR.store(-1, Relaxed);
    let ended = py.detach(|| current.trace.end());
    // Each thread keeps the trace in `HERE` until the next one, and may end detached: its Python objects go now.
    drop(take(&current.names));
    ended?;
    Ok(Some(current.trace.lost()))
}

/// How many records the trace of that number has lost so far; `None` once it has ended.
pub fn lost(number: u64) -> Option<u64> {
    current().filter(|current| current.number == number).map(|current| current.trace.lost())
}

/// Ends the trace that is on, as the process ends.
pub fn end_at_exit(py: Python<'_>) {
    if let Err(error) = end(py, number()) {
        error.write_unraisable(py, None);
    }
}

#[cfg(unix)]
static DESCRIPTOR: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// For a forked child (by 3).
pub fn after_fork() {
    NUMBER.store(0, SeqCst);
    #[cfg(unix)]
    {
        let descriptor = DESCRIPTOR.swap(-1, Relaxed);
        if descriptor >= 0 {
            // SAFETY: the child's copy of a descriptor that only the writer uses, which this process doesn't have.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// The name of this thread, if Python knows it. Read without running Python code, which a signal handler could break
/// off.
fn thread_name(py: Python<'_>) -> String {
    let known = || -> PyResult<String> {
        let active = py.import(intern!(py, "threading"))?.getattr(intern!(py, "_active"))?;
        active.get_item(names::thread_ident(py)?)?.getattr(intern!(py, "_name"))?.extract()
    };
    known().unwrap_or_else(|_| "a thread".to_owned())
}

/// The number that the system has for this thread.
fn thread_number() -> u64 {
    #[cfg(target_os = "linux")]
    return u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
    #[cfg(not(target_os = "linux"))]
    super::threads::thread_key()
}

/// The system's monotonic clock, in nanoseconds. `Instant` has the same one, in two parts, and what takes two of these
/// from each other takes as long as half a look.
#[cfg(target_os = "linux")]
#[inline]
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(not(target_os = "linux"))]
pub fn clock() -> u64 {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    u64::try_from(BEGUN.get_or_init(std::time::Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Calls `note` with what this thread has of the trace of that number, if that is the one which is on.
#[inline]
pub fn with_here<T>(trace: u64, note: impl FnOnce(&mut Here) -> T) -> Option<T> {
    if trace == 0 || trace != number() {
        return None;
    }
    // Fails in the last moments of a thread, when its thread-locals are gone.
    let noted = HERE.try_with(|here| {
        if here.borrow().as_ref().is_none_or(|found| found.number != trace) {
            renew(here, trace)?;
        }
        here.borrow_mut().as_mut().map(note)
    });
    noted.ok().flatten()
}

/// For a thread that has nothing yet of the trace of that number.
#[cold]
#[inline(never)]
fn renew(here: &RefCell<Option<Here>>, trace: u64) -> Option<()> {
    let current = current().filter(|current| current.number == trace)?;
    let name = Python::try_attach(thread_name)?;
    drop(here.replace(Some(Here::new(current, &name))));
    Some(())
}
