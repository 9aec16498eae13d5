//! What a trace consists of: records, and the texts that they name. [`Pen`](crate::trace_pen::Pen) writes them.

use std::fmt::Write;

/// What happened. Each variant says what a record's other fields mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sync code makes a call and waits: `text` is the function, `other` the bridge.
    Call,
    /// It goes on: `text` is the same, `other` the outcome, `id` the call if it went to a loop.
    CallEnd,
    /// The present slice has sent the call `id`.
    Sent,
    /// The call `id` of the function `text` runs from here...
    Step,
    /// ...to here: `text` is the same.
    StepEnd,
    /// The call `id` of the function `text` has suspended for the first time, or has made a nested call. `at` is when
    /// it began.
    Task,
    /// It has ended: `other` is the outcome.
    TaskEnd,
    /// A nested call of the function `text`, made by code of the call `id`; `other` is the bridge.
    Nested,
    /// It has ended: `other` is the outcome.
    NestedEnd,
    /// The stack of a nested call made by the call `id` is left, as the call suspends...
    Parked,
    /// ...and is entered again.
    Resumed,
    /// A worker thread calls the function `text`, as `id` has asked for.
    Job,
    /// It returned or raised: `text` is the same, and `other` the outcome.
    JobEnd,
    /// A loop has run what was ready. `at` is when that began, and `id` how many nanoseconds it took.
    Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    /// Nanoseconds since the trace began.
    pub at: u64,
    pub id: u64,
    pub text: u32,
    pub other: u32,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Call,
        Self::CallEnd,
        Self::Sent,
        Self::Step,
        Self::StepEnd,
        Self::Task,
        Self::TaskEnd,
        Self::Nested,
        Self::NestedEnd,
        Self::Parked,
        Self::Resumed,
        Self::Job,
        Self::JobEnd,
        Self::Turn,
    ];
}

impl Record {
    pub const WORDS: usize = 3;
    /// The kind is in the first word's upper bits; a trace of two years needs all below.
    const KIND_AT: u32 = 56;

    #[inline]
    pub fn to_words(self) -> [u64; Self::WORDS] {
        let kind = (self.kind as u64) << Self::KIND_AT;
        [kind | self.at, self.id, u64::from(self.text) << 32 | u64::from(self.other)]
    }

    pub fn from_words([first, id, texts]: [u64; Self::WORDS]) -> Self {
        let kind = Kind::ALL[(first >> Self::KIND_AT) as usize % Kind::ALL.len()];
        let at = first & ((1 << Self::KIND_AT) - 1);
        Self { kind, at, id, text: (texts >> 32) as u32, other: texts as u32 }
    }
}

/// A name that records refer to by its number, ready for JSON.
#[derive(Debug)]
pub struct Text {
    pub short: String,
    pub long: String,
}

impl Text {
    pub fn new(short: &str, long: &str) -> Self {
        Self { short: quoted(short), long: quoted(long) }
    }
}

pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_each_kind_is_the_same_after_a_way_through_words() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let record = Record { kind, at: (1 << 56) - 1, id: u64::MAX, text: 1, other: u32::MAX };
            assert_eq!(Record::from_words(record.to_words()), record);
        }
    }
}
