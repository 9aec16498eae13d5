//! What a trace consists of, and how that reads in the Trace Event Format, which Perfetto and Chrome show.
//!
//! What one thread does without a break is a slice of that thread ("B", "E", "X"). What a task does over several
//! turns, with others in between, is a slice of a track of its own ("b", "e"). Arrows ("s", "t", "f") lead from slice
//! to slice, from the caller of a call to each step of it and back.

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
    short: String,
    long: String,
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

/// Events as text. What is written often is put together here from few parts, as each costs the writer time.
pub struct Pen {
    pub out: Vec<u8>,
    /// When the trace began, in nanoseconds.
    begun: u64,
    /// The last event's millisecond, and its digits.
    millisecond: (u64, Vec<u8>),
}

/// What an event says of its thread, up to its time.
pub fn thread_part(pid: u32, tid: u64) -> String {
    format!(",\"pid\":{pid},\"tid\":{tid},\"ts\":")
}

const FLOW_END: &str = "{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"hop\",\"name\":\"hop\"";
const FLOW_BEGIN: &str = "{\"ph\":\"s\",\"cat\":\"hop\",\"name\":\"hop\"";
const FLOW_STEP: &str = "{\"ph\":\"t\",\"cat\":\"hop\",\"name\":\"hop\"";
const TRACK_BEGIN: &str = "{\"ph\":\"b\",\"cat\":\"task\",\"name\":";
const TRACK_END: &str = "{\"ph\":\"e\",\"cat\":\"task\",\"name\":";
const ARGS_FUNCTION: &str = ",\"args\":{\"function\":";
const ARGS_OUTCOME: &str = ",\"args\":{\"outcome\":";

impl Pen {
    pub fn new(begun: u64) -> Self {
        Self { out: Vec::new(), begun, millisecond: (0, b"0".to_vec()) }
    }

    /// Writes what the record says. `thread` is its thread's `thread_part`.
    pub fn write<'t>(&mut self, thread: &str, record: &Record, text: impl Fn(u32) -> &'t Text) {
        let Record { kind, at, id, .. } = *record;
        let (main, other) = (text(record.text), text(record.other));
        match kind {
            Kind::Call => {
                self.event("{\"ph\":\"B\",\"cat\":\"call\",\"name\":", &main.short, thread, at);
                self.put(&[ARGS_FUNCTION, &main.long, ",\"bridge\":", &other.short, "}},\n"]);
            }
            Kind::CallEnd => {
                if id != 0 {
                    self.arrow(FLOW_END, thread, id, at);
                }
                self.end(thread, at, main, Some(other));
            }
            Kind::Sent => self.arrow(FLOW_BEGIN, thread, id, at),
            Kind::Step => {
                self.event("{\"ph\":\"B\",\"cat\":\"step\",\"name\":", &main.short, thread, at);
                self.put(&[ARGS_FUNCTION, &main.long, ",\"call\":"]);
                self.number(id);
                self.put(&["}},\n"]);
                self.arrow(FLOW_STEP, thread, id, at);
            }
            Kind::StepEnd => self.end(thread, at, main, None),
            Kind::Task | Kind::Nested => {
                self.event(TRACK_BEGIN, &main.short, thread, at);
                self.id(id);
                self.put(&[ARGS_FUNCTION, &main.long]);
                if kind == Kind::Nested {
                    self.put(&[",\"bridge\":", &other.short]);
                }
                self.put(&["}},\n"]);
            }
            Kind::TaskEnd | Kind::NestedEnd => {
                self.event(TRACK_END, &main.short, thread, at);
                self.id(id);
                self.put(&[ARGS_OUTCOME, &other.short, "}},\n"]);
            }
            Kind::Parked | Kind::Resumed => {
                self.event(if kind == Kind::Parked { TRACK_BEGIN } else { TRACK_END }, "\"parked\"", thread, at);
                self.id(id);
                self.put(&["},\n"]);
            }
            Kind::Job => {
                self.event("{\"ph\":\"B\",\"cat\":\"worker\",\"name\":", &main.short, thread, at);
                self.put(&[ARGS_FUNCTION, &main.long, "}},\n"]);
                self.arrow(FLOW_END, thread, id, at);
            }
            Kind::JobEnd => self.end(thread, at, main, Some(other)),
            Kind::Turn => {
                self.event("{\"ph\":\"X\",\"cat\":\"loop\",\"name\":\"turn\"", "", thread, at);
                self.put(&[",\"dur\":"]);
                self.number(id / 1000);
                self.fraction(id);
                self.put(&["},\n"]);
            }
        }
    }

    fn put(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
    }

    fn event(&mut self, begin: &str, name: &str, thread: &str, at: u64) {
        self.put(&[begin, name, thread]);
        self.time(self.begun + at);
    }

    /// The format does without the name here; speedscope does not.
    fn end(&mut self, thread: &str, at: u64, name: &Text, outcome: Option<&Text>) {
        self.event("{\"ph\":\"E\",\"name\":", &name.short, thread, at);
        match outcome {
            Some(outcome) => self.put(&[ARGS_OUTCOME, &outcome.short, "}},\n"]),
            None => self.put(&["},\n"]),
        }
    }

    fn arrow(&mut self, begin: &str, thread: &str, id: u64, at: u64) {
        self.event(begin, "", thread, at);
        self.id(id);
        self.put(&["},\n"]);
    }

    fn id(&mut self, id: u64) {
        self.put(&[",\"id\":"]);
        self.number(id);
    }

    /// Nanoseconds as the format wants them: microseconds, with a fraction.
    fn time(&mut self, nanos: u64) {
        let millisecond = nanos / 1_000_000;
        if millisecond == 0 {
            self.number(nanos / 1000);
        } else {
            if millisecond != self.millisecond.0 {
                let begin = self.out.len();
                self.number(millisecond);
                self.millisecond = (millisecond, self.out.split_off(begin));
            }
            self.out.extend_from_slice(&self.millisecond.1);
            self.out.extend_from_slice(three_digits(nanos / 1000));
        }
        self.fraction(nanos);
    }

    fn fraction(&mut self, nanos: u64) {
        self.out.push(b'.');
        self.out.extend_from_slice(three_digits(nanos));
    }

    fn number(&mut self, number: u64) {
        if number >= 1000 {
            self.number(number / 1000);
            self.out.extend_from_slice(three_digits(number));
            return;
        }
        let digits = three_digits(number);
        let zeros = usize::from(number < 100) + usize::from(number < 10);
        self.out.extend_from_slice(&digits[zeros..]);
    }
}

/// The last three digits of a number. `write!` takes several times as long, and every event has some numbers.
fn three_digits(number: u64) -> &'static [u8; 3] {
    static ALL: [[u8; 3]; 1000] = {
        let mut all = [[b'0'; 3]; 1000];
        let mut number = 0;
        while number < all.len() {
            all[number] = [b'0' + (number / 100) as u8, b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
            number += 1;
        }
        all
    };
    &ALL[(number % 1000) as usize]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn written(begun: u64, record: Record) -> String {
        let texts = [Text::new("", ""), Text::new("f", "m.f"), Text::new("b\"\\\n", "b")];
        let mut pen = Pen::new(begun);
        pen.write(&thread_part(1, 2), &record, |number| &texts[number as usize]);
        String::from_utf8(pen.out).expect("all of it is text")
    }

    #[test]
    fn a_call_names_its_function_and_its_bridge() {
        let record = Record { kind: Kind::Call, at: 1_234, id: 0, text: 1, other: 2 };
        assert_eq!(
            written(5_000_000, record),
            "{\"ph\":\"B\",\"cat\":\"call\",\"name\":\"f\",\"pid\":1,\"tid\":2,\"ts\":5001.234,\
             \"args\":{\"function\":\"m.f\",\"bridge\":\"b\\\"\\\\\\u000a\"}},\n"
        );
    }

    #[test]
    fn a_record_of_each_kind_is_the_same_after_a_way_through_words() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let record = Record { kind, at: (1 << 56) - 1, id: u64::MAX, text: 1, other: u32::MAX };
            assert_eq!(Record::from_words(record.to_words()), record);
        }
    }

    #[test]
    fn times_have_all_their_digits() {
        let times = [0, 7, 999, 1_000, 999_999, 1_000_000, 1_002_003, 60_000_000, 12_345_678_901_234_567];
        let mut pen = Pen::new(0);
        for nanos in times {
            pen.time(nanos);
            pen.out.push(b' ');
        }
        let expected = times.map(|nanos| format!("{}.{:03} ", nanos / 1000, nanos % 1000)).concat();
        assert_eq!(String::from_utf8(pen.out), Ok(expected));
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 9, 10, 99, 100, 999, 1_000, 1_001, 65_536, 1_000_000, u64::MAX] {
            let mut pen = Pen::new(0);
            pen.number(number);
            assert_eq!(String::from_utf8(pen.out), Ok(number.to_string()));
        }
    }

    #[test]
    fn a_turn_says_how_long_it_took() {
        let record = Record { kind: Kind::Turn, at: 0, id: 20_005, text: 0, other: 0 };
        assert_eq!(
            written(5_000_000, record),
            "{\"ph\":\"X\",\"cat\":\"loop\",\"name\":\"turn\",\"pid\":1,\"tid\":2,\"ts\":5000.000,\"dur\":20.005},\n"
        );
    }
}
