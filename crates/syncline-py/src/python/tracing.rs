//! The trace that this process records, if it does: where code of ours notes what it does.
//!
//! Invariants:
//! 1. What is off costs nothing: each place that notes something asks a state at which it looked anyway, or does so
//!    only for calls that were made while a trace was on.
//! 2. What has begun in one trace does not end in the next one: it remembers the number of its trace.
//! 3. A forked child has no trace. Its parent's is left alone, but for the file's descriptor, which is closed.
//! 4. What each call notes takes no lock, and changes no word that another thread uses: a lock costs as much as a look at the
//!    clock, and there are few of either.

use super::attribute::{code_of, name_and_module};
use super::names;
use super::once::intern;
use super::per_process::PerProcess;
use super::signals;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
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
pub use syncline_core::trace_events::Kind;
use syncline_core::trace_events::{Record, Text};

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

/// What a thread has of the trace.
struct Here {
    current: Arc<Current>,
    lane: Lane,
    outgoing: Outgoing,
    /// Some of `Names::known`, each at the place that its addresses give.
    seen: [((usize, usize), u32); MOST_SEEN],
    /// Some of `Names::words`.
    words: Vec<(String, u32)>,
    numbers: Range<u64>,
}

/// The call that this thread is about to send, or has sent, and for which it waits.
#[derive(Clone, Copy, Default)]
struct Outgoing {
    text: u32,
    /// Once it is sent.
    id: u64,
    /// When it was made; 0 if none is about to be sent.
    at: u64,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

impl Here {
    fn new(current: Arc<Current>, name: &str) -> Self {
        let lane = current.trace.lane(thread_number(), name);
        let seen = [((0, 0), UNKNOWN); MOST_SEEN];
        Self { current, lane, outgoing: Outgoing::default(), seen, words: Vec::new(), numbers: 0..0 }
    }

    fn now(&self) -> u64 {
        self.current.trace.now()
    }

    fn note(&mut self, kind: Kind, at: u64, id: u64, text: u32, other: u32) {
        self.lane.note(Record { kind, at, id, text, other });
    }

    fn new_id(&mut self) -> u64 {
        if self.numbers.is_empty() {
            let first = NEXT_CALL.fetch_add(NUMBERS, Relaxed);
            self.numbers = first..first + NUMBERS;
        }
        self.numbers.start += 1;
        self.numbers.start - 1
    }

    fn word(&mut self, word: &str) -> u32 {
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
    fn hand_over(&mut self, by: &str, done: &str, text: u32) -> u64 {
        let (id, by, done) = (self.new_id(), self.word(by), self.word(done));
        let at = self.now();
        self.note(Kind::Call, at, 0, by, UNKNOWN);
        self.note(Kind::Sent, at, id, text, UNKNOWN);
        let at = self.now();
        self.note(Kind::CallEnd, at, 0, by, done);
        id
    }

    /// The text of the two objects at these addresses, if there is one; `UNKNOWN`, if there are too many.
    fn known(&mut self, key: (usize, usize)) -> Option<u32> {
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
    let current = Current { number, path: path.to_owned(), trace, names: Mutex::default() };
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

/// Calls `note` with what this thread has of the trace of that number, if that is the one which is on.
#[inline]
fn with_here<T>(trace: u64, note: impl FnOnce(&mut Here) -> T) -> Option<T> {
    if trace == 0 || trace != number() {
        return None;
    }
    // Fails in the last moments of a thread, when its thread-locals are gone.
    let noted = HERE.try_with(|here| match &mut *here.borrow_mut() {
        Some(here) if here.current.number == trace => Ok(note(here)),
        _ => Err(note),
    });
    match noted {
        Ok(Ok(noted)) => Some(noted),
        Ok(Err(note)) => with_new_here(trace, note),
        Err(_) => None,
    }
}

/// The same for a thread that has nothing of it yet.
#[cold]
fn with_new_here<T>(trace: u64, note: impl FnOnce(&mut Here) -> T) -> Option<T> {
    let current = current().filter(|current| current.number == trace)?;
    let name = Python::try_attach(thread_name)?;
    drop(HERE.replace(Some(Here::new(current, &name))));
    HERE.with_borrow_mut(|here| here.as_mut().map(note))
}

/// Notes that something happens now, in the trace of that number.
pub fn note(trace: u64, kind: Kind, id: u64, text: u32, other: u32) {
    note_at(trace, kind, id, text, other, None);
}

/// Notes it as of an earlier time, or as of now; returns when that was.
pub fn note_at(trace: u64, kind: Kind, id: u64, text: u32, other: u32, at: Option<u64>) -> u64 {
    let noted = with_here(trace, |here| {
        let at = at.unwrap_or_else(|| here.now());
        here.note(kind, at, id, text, other);
        at
    });
    noted.unwrap_or(0)
}

/// The time, as records of that trace have it; 0 if it has ended.
pub fn now(trace: u64) -> u64 {
    with_here(trace, |here| here.now()).unwrap_or(0)
}

/// Notes that a loop has run since that time.
pub fn note_turn(trace: u64, since: u64) {
    with_here(trace, |here| {
        let took = here.now().saturating_sub(since);
        here.note(Kind::Turn, since, took, UNKNOWN, UNKNOWN);
    });
}

/// Notes that code here asks a thread to call a function; returns its number, that no other one has in this process, and
/// its text.
pub fn ask(trace: u64, function_asked: &Bound<'_, PyAny>) -> (u64, u32) {
    let text = function(function_asked);
    let noted = with_here(trace, |here| {
        let (id, at) = (here.new_id(), here.now());
        here.note(Kind::Sent, at, id, text, UNKNOWN);
        id
    });
    (noted.unwrap_or(0), text)
}

/// Notes the begin of a nested call of that function in the track `id`, or in one of its own; returns that track's number
/// and the function's text.
pub fn begin_nested(trace: u64, id: Option<u64>, object: &Bound<'_, PyAny>, bridge: &str) -> (u64, u32) {
    let text = function(object);
    let noted = with_here(trace, |here| {
        let id = id.unwrap_or_else(|| here.new_id());
        let (at, bridge) = (here.now(), here.word(bridge));
        here.note(Kind::Nested, at, id, text, bridge);
        id
    });
    (noted.unwrap_or(0), text)
}

/// Runs `call`, which blocks this thread until a call of that function has ended: a slice of this thread.
pub fn blocking<T>(object: &Bound<'_, PyAny>, bridge: &str, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let trace = number();
    if trace == 0 {
        return call();
    }
    let text = function(object);
    let outer = with_here(trace, |here| {
        let (at, bridge) = (here.now(), here.word(bridge));
        here.note(Kind::Call, at, 0, text, bridge);
        std::mem::replace(&mut here.outgoing, Outgoing { text, id: 0, at })
    });
    let result = call();
    let outcome = outcome(object.py(), result.as_ref());
    with_here(trace, |here| {
        let sent = std::mem::replace(&mut here.outgoing, outer.unwrap_or_default());
        let at = here.now();
        here.note(Kind::CallEnd, at, sent.id, text, outcome);
    });
    result
}

/// A call is being sent: returns its number, and its function if that is known. If this thread does not wait for it, `by`
/// is what sends it: a short slice, from which the arrow starts.
pub fn send(trace: u64, by: Option<&str>) -> (u64, u32) {
    let sent = with_here(trace, |here| {
        if let Some(by) = by {
            return (here.hand_over(by, "sent", UNKNOWN), UNKNOWN);
        }
        let id = here.new_id();
        let Outgoing { text, at, .. } = here.outgoing;
        if at == 0 {
            // Not what this thread has said that it waits for.
            let at = here.now();
            here.note(Kind::Sent, at, id, UNKNOWN, UNKNOWN);
            return (id, UNKNOWN);
        }
        here.outgoing = Outgoing { text, id, at: 0 };
        // As of the begin of the thread's slice: the difference shows nothing, and a look at the clock is a fourth of all.
        here.note(Kind::Sent, at, id, text, UNKNOWN);
        (id, text)
    });
    sent.unwrap_or((0, UNKNOWN))
}

/// A call of that text begins on the loop of this thread, and is no hop; `by` is what began it. Returns its number.
pub fn begin_here(trace: u64, by: &str, text: u32) -> u64 {
    with_here(trace, |here| here.hand_over(by, "begun", text)).unwrap_or(0)
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
    if let Some((name, module)) = name_and_module(object) {
        return named(&name, &module);
    }
    let py = object.py();
    let qualname = intern!(py, "__qualname__");
    let name = match of(object, qualname) {
        Some(name) => interned(name),
        None => match of(object, intern!(py, "func")) {
            // A partial.
            Some(inner) => return function(&inner),
            None => return function(object.get_type().as_any()),
        },
    };
    // The code first: to ask for what an object does not have takes longer than all else here.
    let module = code_of(object).or_else(|| of(object, intern!(py, "__module__")));
    let module = module.or_else(|| of(object, intern!(py, "cr_code"))).or_else(|| of(object, intern!(py, "ag_code")));
    named(&name, &module.unwrap_or_else(|| object.get_type().into_any()))
}

fn named(name: &Bound<'_, PyAny>, module: &Bound<'_, PyAny>) -> u32 {
    known_or(module, name, || {
        let short = name.str().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
        let prefix = if module.is_instance_of::<PyString>() {
            module.extract::<String>().ok()
        } else {
            module.getattr(intern!(name.py(), "co_filename")).and_then(|file| file.extract()).ok()
        };
        Text::new(&short, &prefix.map_or_else(|| short.clone(), |prefix| format!("{prefix}.{short}")))
    })
}

/// The one string of this text that stays. What is written in C makes another one each time that it is asked for its name.
fn interned(name: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    if !name.is_exact_instance_of::<PyString>() {
        return name;
    }
    let py = name.py();
    let mut owned = name.into_ptr();
    // SAFETY: attached, and a string; the reference to it is exchanged for one to the interned string.
    unsafe { ffi::PyUnicode_InternInPlace(&raw mut owned) };
    // SAFETY: an own reference.
    unsafe { Bound::from_owned_ptr(py, owned) }
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
    if let Some(Some(known)) = with_here(number(), |here| here.known(key)) {
        return known;
    }
    let Some(current) = current() else { return UNKNOWN };
    let text = make();
    if current.number != number() {
        // The trace has ended while Python code ran: nobody would let go of objects that it is given now.
        return UNKNOWN;
    }
    let text = current.trace.text(text);
    let mut names = lock(&current.names);
    names.known.insert(key, text);
    names.kept.push((first.clone().unbind(), second.clone().unbind()));
    text
}
