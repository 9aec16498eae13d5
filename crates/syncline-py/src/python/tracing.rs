//! What is noted in the trace that is recorded.

use super::recorded_names::{function, outcome};
use super::recording::{Outgoing, UNKNOWN, clock, number, with_here};
use pyo3::prelude::*;
use syncline_core::trace_events::Kind;

/// Notes that something happens now, in the trace of that number; returns when that is.
#[inline]
pub fn note(trace: u64, kind: Kind, id: u64, text: u32, other: u32) -> u64 {
    let noted = with_here(trace, |here| {
        let at = here.now();
        here.note(kind, at, id, text, other);
        at
    });
    noted.unwrap_or(0)
}

/// Notes something as of an earlier time.
#[inline]
pub fn note_at(trace: u64, kind: Kind, id: u64, text: u32, other: u32, at: u64) {
    with_here(trace, |here| here.note(kind, at, id, text, other));
}

/// When a turn begins, for `note_turn`.
#[inline]
pub fn begin_turn() -> u64 {
    clock()
}

/// Notes that a loop has run since that time.
#[inline]
pub fn note_turn(trace: u64, since: u64) {
    with_here(trace, |here| {
        let (at, now) = (here.since(since), here.now());
        here.note(Kind::Turn, at, now.saturating_sub(at), UNKNOWN, UNKNOWN);
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
