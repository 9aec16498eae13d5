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
    /// The call `id` of the function `text` has suspended for the first time, or has made a nested call. `at` is when it
    /// began.
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

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub kind: Kind,
    /// Nanoseconds since the trace began.
    pub at: u64,
    pub id: u64,
    pub text: u32,
    pub other: u32,
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

/// Writes events of one thread.
pub struct Pen<'a> {
    pub out: &'a mut String,
    /// `,"pid":...,"tid":...`
    pub thread: &'a str,
    /// When the trace began, in nanoseconds.
    pub begun: u64,
}

impl Pen<'_> {
    pub fn write<'t>(&mut self, record: &Record, text: impl Fn(u32) -> &'t Text) {
        let Record { kind, at, id, .. } = *record;
        let (main, other) = (text(record.text), text(record.other));
        match kind {
            Kind::Call => {
                self.begin("B", "call", &main.short, at);
                self.put(&[",\"args\":{\"function\":", &main.long, ",\"bridge\":", &other.short, "}},\n"]);
            }
            Kind::CallEnd => {
                if id != 0 {
                    self.arrow("f\",\"bp\":\"e", id, at);
                }
                self.end(at, main, Some(other));
            }
            Kind::Sent => self.arrow("s", id, at),
            Kind::Step => {
                self.begin("B", "step", &main.short, at);
                self.put(&[",\"args\":{\"function\":", &main.long, ",\"call\":"]);
                self.number(id);
                self.put(&["}},\n"]);
                self.arrow("t", id, at);
            }
            Kind::StepEnd => self.end(at, main, None),
            Kind::Task | Kind::Nested => {
                self.begin("b", "task", &main.short, at);
                self.id(id);
                self.put(&[",\"args\":{\"function\":", &main.long]);
                if kind == Kind::Nested {
                    self.put(&[",\"bridge\":", &other.short]);
                }
                self.put(&["}},\n"]);
            }
            Kind::TaskEnd | Kind::NestedEnd => {
                self.begin("e", "task", &main.short, at);
                self.id(id);
                self.put(&[",\"args\":{\"outcome\":", &other.short, "}},\n"]);
            }
            Kind::Parked | Kind::Resumed => {
                self.begin(if kind == Kind::Parked { "b" } else { "e" }, "task", "\"parked\"", at);
                self.id(id);
                self.put(&["},\n"]);
            }
            Kind::Job => {
                self.begin("B", "worker", &main.short, at);
                self.put(&[",\"args\":{\"function\":", &main.long, "}},\n"]);
                self.arrow("f\",\"bp\":\"e", id, at);
            }
            Kind::JobEnd => self.end(at, main, Some(other)),
            Kind::Turn => {
                self.begin("X", "loop", "\"turn\"", at);
                self.put(&[",\"dur\":"]);
                self.micros(id);
                self.put(&["},\n"]);
            }
        }
    }

    fn put(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.push_str(part));
    }

    fn begin(&mut self, phase: &str, category: &str, name: &str, at: u64) {
        self.put(&["{\"ph\":\"", phase, "\",\"cat\":\"", category, "\",\"name\":", name, self.thread, ",\"ts\":"]);
        self.micros(self.begun + at);
    }

    /// The format does without the name here; speedscope does not.
    fn end(&mut self, at: u64, name: &Text, outcome: Option<&Text>) {
        self.put(&["{\"ph\":\"E\",\"name\":", &name.short, self.thread, ",\"ts\":"]);
        self.micros(self.begun + at);
        match outcome {
            Some(outcome) => self.put(&[",\"args\":{\"outcome\":", &outcome.short, "}},\n"]),
            None => self.put(&["},\n"]),
        }
    }

    fn arrow(&mut self, phase: &str, id: u64, at: u64) {
        self.begin(phase, "hop", "\"hop\"", at);
        self.id(id);
        self.put(&["},\n"]);
    }

    fn id(&mut self, id: u64) {
        self.put(&[",\"id\":"]);
        self.number(id);
    }

    /// Nanoseconds as the format wants them: microseconds, with a fraction.
    fn micros(&mut self, nanos: u64) {
        self.number(nanos / 1000);
        let rest = nanos % 1000;
        let digit = |value: u64| char::from(b'0' + (value % 10) as u8);
        self.out.extend(['.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }

    /// `write!` takes three times as long, and every event has five numbers.
    fn number(&mut self, number: u64) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        let mut left = number;
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.out.push_str(std::str::from_utf8(&digits[first..]).unwrap_or_default());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn written(record: Record) -> String {
        let texts = [Text::new("", ""), Text::new("f", "m.f"), Text::new("b\"\\\n", "b")];
        let mut out = String::new();
        let mut pen = Pen { out: &mut out, thread: ",\"pid\":1,\"tid\":2", begun: 5_000_000 };
        pen.write(&record, |number| &texts[number as usize]);
        out
    }

    #[test]
    fn a_call_names_its_function_and_its_bridge() {
        let record = Record { kind: Kind::Call, at: 1_234, id: 0, text: 1, other: 2 };
        assert_eq!(
            written(record),
            "{\"ph\":\"B\",\"cat\":\"call\",\"name\":\"f\",\"pid\":1,\"tid\":2,\"ts\":5001.234,\
             \"args\":{\"function\":\"m.f\",\"bridge\":\"b\\\"\\\\\\u000a\"}},\n"
        );
    }

    #[test]
    fn a_turn_says_how_long_it_took() {
        let record = Record { kind: Kind::Turn, at: 0, id: 20_005, text: 0, other: 0 };
        assert_eq!(
            written(record),
            "{\"ph\":\"X\",\"cat\":\"loop\",\"name\":\"turn\",\"pid\":1,\"tid\":2,\"ts\":5000.000,\"dur\":20.005},\n"
        );
    }
}
