//! The trace that this process records, if it does: where code of ours notes what it does.
//!
//! Invariants:
//! 1. What is off costs nothing: each place that notes something asks a state at which it looked anyway, or does so only
//!    for calls that were made while a trace was on.
//! 2. What has begun in one trace does not end in the next one: it remembers the number of its trace.
//! 3. A forked child has no trace. Its parent's is left alone, but for the file's descriptor, which is closed.

use super::names;
use super::once::intern;
use super::per_process::PerProcess;
use super::process;
use super::signals;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use syncline_core::sync::{Mutex, lock, replace, take};
use syncline_core::trace::{Lane, Trace};
pub use syncline_core::trace_events::Kind;
use syncline_core::trace_events::{Record, Text};

/// So many functions are told apart.
const MOST_NAMES: usize = 1 << 16;
/// The text of a function that is not known, or not yet.
pub const UNKNOWN: u32 = 0;
/// The text of the usual outcome: the first that `begin` makes.
const RETURNED: u32 = 1;

/// Whether anybody wants to hear of calls: a trace is on, or spans are made of them.
static WANTED: AtomicBool = AtomicBool::new(false);
/// The number of the trace that is on; 0 if none is.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static NEXT_CALL: AtomicU64 = AtomicU64::new(1);
static CURRENT: PerProcess<Option<Arc<Current>>> = PerProcess::new();

struct Current {
    number: u64,
    epoch: u32,
    path: String,
    trace: Trace,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    /// By the addresses of two objects, which `kept` keeps from being used again.
    known: HashMap<(usize, usize), u32>,
    kept: Vec<(Py<PyAny>, Py<PyAny>)>,
    words: HashMap<String, u32>,
}

struct Here {
    current: Arc<Current>,
    lane: Arc<Lane>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
    /// The call that this thread is about to send: its function, and its number once it has one.
    static OUTGOING: Cell<(u32, u64)> = const { Cell::new((UNKNOWN, 0)) };
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

fn current() -> Option<Arc<Current>> {
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
    let file = File::create(path)?;
    let number = LAST.fetch_add(1, Relaxed) + 1;
    #[cfg(unix)]
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    let trace = Trace::begin(file, process, now)?;
    // Only now: if the writer could not be started, the file is closed.
    #[cfg(unix)]
    DESCRIPTOR.store(descriptor, Relaxed);
    trace.text(Text::new("returned", "returned"));
    let current = Current { number, epoch: process::epoch(), path: path.to_owned(), trace, names: Mutex::default() };
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
    // The threads keep what they have of the trace until the next one, and may end detached.
    drop(take(&current.names));
    ended?;
    Ok(Some(current.trace.lost()))
}

/// How many records the trace of that number has lost so far; `None` once it has ended.
pub fn lost(number: u64) -> Option<u64> {
    current().filter(|current| current.number == number).map(|current| current.trace.lost())
}

/// The end of the process.
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

/// The name of this thread, if Python knows it. Read without running Python code, which a signal handler could break off.
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

/// Calls `note` with this thread's lane of the trace that is on.
fn with_lane<T>(note: impl FnOnce(&Current, &Lane) -> T) -> Option<T> {
    let is_current = |here: &Here| here.current.number == number() && here.current.epoch == process::epoch();
    // Not in the last moments of a thread, when this is gone.
    let is_known = HERE.try_with(|here| here.borrow().as_ref().is_some_and(is_current)).ok()?;
    if !is_known {
        let current = current().filter(|current| current.number == number())?;
        let name = Python::try_attach(thread_name)?;
        let lane = current.trace.lane(thread_number(), &name);
        drop(HERE.replace(Some(Here { current, lane })));
    }
    HERE.with_borrow(|here| here.as_ref().map(|here| note(&here.current, &here.lane)))
}

/// Notes that something happens now, in the trace of that number.
pub fn note(number: u64, kind: Kind, id: u64, text: u32, other: u32) {
    note_at(number, kind, id, text, other, None);
}

/// Notes it as of an earlier time, or as of now; returns when that was.
pub fn note_at(number: u64, kind: Kind, id: u64, text: u32, other: u32, at: Option<u64>) -> u64 {
    if number == 0 || number != NUMBER.load(Relaxed) {
        return 0;
    }
    let noted = with_lane(|current, lane| {
        let at = at.unwrap_or_else(|| current.trace.now());
        lane.note(Record { kind, at, id, text, other });
        at
    });
    noted.unwrap_or(0)
}

/// The time, as records have it.
pub fn now() -> u64 {
    with_lane(|current, _| current.trace.now()).unwrap_or(0)
}

/// A number for a call, or whatever else arrows lead to, that no other one has in this process.
pub fn new_id() -> u64 {
    NEXT_CALL.fetch_add(1, Relaxed)
}

/// Runs `call`, which blocks this thread until a call of that function has ended: a slice of this thread.
pub fn blocking<T>(object: &Bound<'_, PyAny>, bridge: &str, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let trace = number();
    if trace == 0 {
        return call();
    }
    let text = function(object);
    note(trace, Kind::Call, 0, text, word(bridge));
    let outer = OUTGOING.replace((text, 0));
    let result = call();
    let (_, id) = OUTGOING.replace(outer);
    note(trace, Kind::CallEnd, id, text, outcome(object.py(), result.as_ref()));
    result
}

/// A call is being sent: returns its number, and its function if that is known.
pub fn send(number: u64) -> (u64, u32) {
    let id = new_id();
    let (text, _) = OUTGOING.get();
    OUTGOING.set((text, id));
    note(number, Kind::Sent, id, text, 0);
    (id, text)
}

/// A text for a word of ours: the name of a bridge, an outcome.
pub fn word(word: &str) -> u32 {
    let found = with_lane(|current, _| {
        let mut names = lock(&current.names);
        if let Some(known) = names.words.get(word) {
            return *known;
        }
        let text = current.trace.text(Text::new(word, word));
        names.words.insert(word.to_owned(), text);
        text
    });
    found.unwrap_or(UNKNOWN)
}

/// A text for what came of a call.
pub fn outcome<T>(py: Python<'_>, result: Result<T, &PyErr>) -> u32 {
    let error = match result {
        Ok(_) => return RETURNED,
        Err(error) => error,
    };
    let kind = error.get_type(py);
    known_or(kind.as_any(), kind.as_any(), || {
        let name = kind.qualname().and_then(|name| name.extract::<String>()).unwrap_or_default();
        let raised = format!("raised {name}");
        Text::new(&raised, &raised)
    })
}

/// A text for a function, or for a coroutine or another object of its kind.
pub fn function(object: &Bound<'_, PyAny>) -> u32 {
    let py = object.py();
    let qualname = intern!(py, "__qualname__");
    let named = match of(object, qualname) {
        Some(name) => name,
        None => match of(object, intern!(py, "func")) {
            // A partial.
            Some(inner) => return function(&inner),
            None => return function(object.get_type().as_any()),
        },
    };
    let module = of(object, intern!(py, "__module__"));
    // A coroutine, or an async generator.
    let module = module.or_else(|| of(object, intern!(py, "cr_code"))).or_else(|| of(object, intern!(py, "ag_code")));
    let module = module.unwrap_or_else(|| object.get_type().into_any());
    known_or(&module, &named, || {
        let short = named.str().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
        let prefix = if module.is_instance_of::<PyString>() {
            module.extract::<String>().ok()
        } else {
            module.getattr(intern!(py, "co_filename")).and_then(|file| file.extract()).ok()
        };
        Text::new(&short, &prefix.map_or_else(|| short.clone(), |prefix| format!("{prefix}.{short}")))
    })
}

fn of<'py>(object: &Bound<'py, PyAny>, attribute: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    object.getattr_opt(attribute).unwrap_or_else(|error| {
        // An object may answer in Python, where a signal handler may raise.
        signals::keep_unless_exception(object.py(), error);
        None
    })
}

/// The text that the trace has for these two objects, or a new one.
fn known_or(first: &Bound<'_, PyAny>, second: &Bound<'_, PyAny>, make: impl FnOnce() -> Text) -> u32 {
    let key = (first.as_ptr() as usize, second.as_ptr() as usize);
    let known = with_lane(|current, _| {
        let names = lock(&current.names);
        names.known.get(&key).copied().or_else(|| (names.known.len() >= MOST_NAMES).then_some(UNKNOWN))
    });
    if let Some(Some(known)) = known {
        return known;
    }
    let Some(current) = current() else { return UNKNOWN };
    let text = make();
    if current.number != number() {
        // It has ended while Python code ran: what is kept now nobody would let go of.
        return UNKNOWN;
    }
    let text = current.trace.text(text);
    let mut names = lock(&current.names);
    names.known.insert(key, text);
    names.kept.push((first.clone().unbind(), second.clone().unbind()));
    text
}
