//! Records as text, in the Trace Event Format, which Perfetto and Chrome show.
//!
//! What one thread does without a break is a slice of that thread ("B", "E", "X"). What a task does over several
//! turns, with others in between, is a slice of a track of its own ("b", "e"). Arrows ("s", "t", "f") lead from slice
//! to slice, from the caller of a call to each step of it and back.
//!
//! A slice that has ended before anything is written out is one event, "X", where "B" and "E" would be two, with all
//! that says whose they are: the file is a fifth smaller so.
//!
//! Invariants:
//! 1. The text is right at any time. A slice's begin is written as "B", with room for what makes an "X" of it.
//! 2. Only the outermost slices of a thread become "X". Perfetto takes an arrow for that of the slice which has begun
//!    last and has no end yet, and it sees the end of an "X" when the next slice begins: an arrow that comes after an
//!    inner one would be the inner one's.
//! 3. Every arrow lies in a slice: viewers show no others.

use crate::trace_events::{Kind, Record, Text};

/// Events as text. What is written often is put together from few parts, as each costs the writer time.
pub struct Pen {
    out: Vec<u8>,
    /// When the trace began, in nanoseconds.
    begun: u64,
    time: Time,
    /// How many slices of the present thread have begun and have not ended.
    depth: usize,
    /// The outermost of them, if its begin is in `out`.
    open: Option<Open>,
}

/// Where the text of a slice's begin has room.
struct Open {
    at: u64,
    text: u32,
    phase: usize,
    duration: usize,
    outcome: Option<usize>,
}

/// What an event says of its thread, up to its time.
pub fn thread_part(pid: u32, tid: u64) -> String {
    format!(",\"pid\":{pid},\"tid\":{tid},\"ts\":")
}

/// Where the phase of a slice stands in its text.
const PHASE: usize = b"{\"ph\":\"".len();
const DURATION: &[u8] = b",\"dur\":";
/// A slice of a second or more keeps its two events.
const MOST_DIGITS: usize = b"999999.999".len();
const ROOM_FOR_DURATION: &[u8; DURATION.len() + MOST_DIGITS] = b"                 ";
const OUTCOME: &[u8] = b",\"outcome\":";
/// An outcome with a longer text has an event of its own.
const ROOM_FOR_OUTCOME: &[u8; OUTCOME.len() + b"\"returned\"".len()] = b"                     ";
const FLOW_BEGIN: &[u8] = b"{\"ph\":\"s\",\"cat\":\"hop\",\"name\":\"hop\"";
const FLOW_STEP: &[u8] = b"{\"ph\":\"t\",\"cat\":\"hop\",\"name\":\"hop\"";
const FLOW_END: &[u8] = b"{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"hop\",\"name\":\"hop\"";
const ID: &[u8] = b",\"id\":";
const ARGS_FUNCTION: &[u8] = b",\"args\":{\"function\":";
const BRIDGE: &[u8] = b",\"bridge\":";
const ARGS_OUTCOME: &[u8] = b",\"args\":{\"outcome\":";

impl Pen {
    pub fn new(begun: u64) -> Self {
        Self { out: Vec::new(), begun, time: Time::default(), depth: 0, open: None }
    }

    /// What is written so far and was not taken.
    pub fn written(&self) -> &[u8] {
        &self.out
    }

    pub fn add(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Takes so many bytes of it away.
    pub fn forget(&mut self, count: usize) {
        self.open = None;
        self.out.drain(..count);
    }

    /// From now on `write` is given records of another thread, of which so many slices have begun.
    pub fn begin_thread(&mut self, depth: usize) {
        (self.depth, self.open) = (depth, None);
    }

    /// How many slices of the thread have begun, and have not ended.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Writes what the record says. `thread` is its thread's `thread_part`.
    pub fn write<'t>(&mut self, thread: &str, record: &Record, text: impl Fn(u32) -> &'t Text) {
        let (main, other) = (text(record.text), text(record.other));
        match record.kind {
            Kind::CallEnd | Kind::StepEnd | Kind::JobEnd => {}
            _ => self.time.set(self.begun + record.at),
        }
        match record.kind {
            Kind::Call => {
                let begin = self.begin(b"{\"ph\":\"B\",\"cat\":\"call\",\"name\":", thread, main);
                self.put(BRIDGE).put(other.short.as_bytes());
                self.begun(begin, record, true);
            }
            Kind::CallEnd => {
                if record.id != 0 {
                    // By 3: viewers that count in floating point may find the very end outside.
                    self.time.set(self.begun + record.at.saturating_sub(1));
                    self.arrow(FLOW_END, thread, &Digits::of(record.id));
                }
                self.end(thread, record, main, Some(other));
            }
            Kind::Sent => {
                if self.depth == 0 {
                    // By 3.
                    self.event(b"{\"ph\":\"X\",\"cat\":\"sent\",\"name\":", &main.short, thread);
                    self.put(b",\"dur\":0.000").put(ARGS_FUNCTION).put(main.long.as_bytes()).put(b"}},\n");
                }
                self.arrow(FLOW_BEGIN, thread, &Digits::of(record.id));
            }
            Kind::Step => {
                let id = Digits::of(record.id);
                let begin = self.begin(b"{\"ph\":\"B\",\"cat\":\"step\",\"name\":", thread, main);
                self.put(b",\"call\":").put(id.text());
                self.begun(begin, record, false);
                self.arrow(FLOW_STEP, thread, &id);
            }
            Kind::StepEnd => self.end(thread, record, main, None),
            Kind::Task | Kind::Nested => {
                self.event(b"{\"ph\":\"b\",\"cat\":\"task\",\"name\":", &main.short, thread);
                self.put(ID).put(Digits::of(record.id).text()).put(ARGS_FUNCTION).put(main.long.as_bytes());
                if record.kind == Kind::Nested {
                    self.put(BRIDGE).put(other.short.as_bytes());
                }
                self.put(b"}},\n");
            }
            Kind::TaskEnd | Kind::NestedEnd => {
                self.event(b"{\"ph\":\"e\",\"cat\":\"task\",\"name\":", &main.short, thread);
                self.put(ID).put(Digits::of(record.id).text());
                self.put(ARGS_OUTCOME).put(other.short.as_bytes()).put(b"}},\n");
            }
            Kind::Parked => self.parked(b"{\"ph\":\"b\",\"cat\":\"task\",\"name\":\"parked\"", thread, record.id),
            Kind::Resumed => self.parked(b"{\"ph\":\"e\",\"cat\":\"task\",\"name\":\"parked\"", thread, record.id),
            Kind::Job => {
                let begin = self.begin(b"{\"ph\":\"B\",\"cat\":\"worker\",\"name\":", thread, main);
                self.begun(begin, record, true);
                self.arrow(FLOW_END, thread, &Digits::of(record.id));
            }
            Kind::JobEnd => self.end(thread, record, main, Some(other)),
            Kind::Turn => {
                self.event(b"{\"ph\":\"X\",\"cat\":\"loop\",\"name\":\"turn\"", "", thread);
                self.put(DURATION).put(Digits::of_microseconds(record.id).text()).put(b"},\n");
            }
        }
    }

    #[inline]
    fn put(&mut self, part: &[u8]) -> &mut Self {
        self.out.extend_from_slice(part);
        self
    }

    #[inline]
    fn event(&mut self, begin: &[u8], name: &str, thread: &str) {
        self.put(begin).put(name.as_bytes()).put(thread.as_bytes());
        self.out.extend_from_slice(self.time.text());
    }

    #[inline]
    fn arrow(&mut self, begin: &[u8], thread: &str, id: &Digits) {
        self.event(begin, "", thread);
        self.put(ID).put(id.text()).put(b"},\n");
    }

    fn parked(&mut self, begin: &[u8], thread: &str, id: u64) {
        self.arrow(begin, thread, &Digits::of(id));
    }

    /// A slice's begin, up to its function. Returns where it begins, and where it has room for how long it took.
    #[inline]
    fn begin(&mut self, begin: &[u8], thread: &str, main: &Text) -> (usize, usize) {
        let start = self.out.len();
        self.event(begin, &main.short, thread);
        let duration = self.out.len();
        if self.depth == 0 {
            self.put(ROOM_FOR_DURATION);
        }
        self.put(ARGS_FUNCTION).put(main.long.as_bytes());
        (start, duration)
    }

    /// What else it says is written now.
    #[inline]
    fn begun(&mut self, (start, duration): (usize, usize), record: &Record, has_outcome: bool) {
        if self.depth == 0 {
            let outcome = has_outcome.then_some(self.out.len());
            if has_outcome {
                self.put(ROOM_FOR_OUTCOME);
            }
            self.open = Some(Open { at: record.at, text: record.text, phase: start + PHASE, duration, outcome });
        }
        self.put(b"}},\n");
        self.depth += 1;
    }

    /// The format does without the name here; speedscope does not.
    #[inline]
    fn end(&mut self, thread: &str, record: &Record, name: &Text, outcome: Option<&Text>) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0
            && let Some(open) = self.open.take()
            && open.text == record.text
            && self.fill_in(&open, record.at.saturating_sub(open.at), outcome)
        {
            return;
        }
        self.time.set(self.begun + record.at);
        self.event(b"{\"ph\":\"E\",\"name\":", &name.short, thread);
        match outcome {
            Some(outcome) => self.put(ARGS_OUTCOME).put(outcome.short.as_bytes()).put(b"}},\n"),
            None => self.put(b"},\n"),
        };
    }

    /// Makes one event of it. False if there is no room for that.
    #[inline]
    fn fill_in(&mut self, open: &Open, nanos: u64, outcome: Option<&Text>) -> bool {
        let digits = Digits::of_microseconds(nanos);
        let (digits, outcome) = (digits.text(), outcome.map_or(&[][..], |outcome| outcome.short.as_bytes()));
        if digits.len() > MOST_DIGITS || OUTCOME.len() + outcome.len() > ROOM_FOR_OUTCOME.len() {
            return false;
        }
        if let Some(at) = open.outcome {
            self.out[at..at + OUTCOME.len()].copy_from_slice(OUTCOME);
            self.out[at + OUTCOME.len()..][..outcome.len()].copy_from_slice(outcome);
        }
        self.out[open.phase] = b'X';
        let room = &mut self.out[open.duration..][..ROOM_FOR_DURATION.len()];
        room[..DURATION.len()].copy_from_slice(DURATION);
        room[ROOM_FOR_DURATION.len() - digits.len()..].copy_from_slice(digits);
        true
    }
}

/// Nanoseconds as the format wants them, microseconds with a fraction: of one event after the other, most of which share
/// their millisecond.
#[derive(Default)]
struct Time {
    millisecond: u64,
    text: [u8; 32],
    /// Where the millisecond's digits end, and where all do.
    of_millisecond: usize,
    length: usize,
}

impl Time {
    const REST: usize = b"123.456".len();

    #[inline]
    fn set(&mut self, nanos: u64) {
        let millisecond = nanos / 1_000_000;
        if millisecond != self.millisecond || millisecond == 0 {
            self.begin(millisecond, nanos);
            if millisecond == 0 {
                return;
            }
        }
        let rest = &mut self.text[self.of_millisecond..][..Self::REST];
        rest[..3].copy_from_slice(three_digits(nanos / 1000));
        rest[3] = b'.';
        rest[4..].copy_from_slice(three_digits(nanos));
    }

    #[cold]
    fn begin(&mut self, millisecond: u64, nanos: u64) {
        let digits = if millisecond == 0 { Digits::of_microseconds(nanos) } else { Digits::of(millisecond) };
        let digits = digits.text();
        self.text[..digits.len()].copy_from_slice(digits);
        self.millisecond = millisecond;
        self.of_millisecond = digits.len();
        self.length = digits.len() + if millisecond == 0 { 0 } else { Self::REST };
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

/// A number as text, at the end of what there is. `write!` takes several times as long, and every event has some numbers.
struct Digits {
    all: [u8; 24],
    first: usize,
}

impl Digits {
    #[inline]
    fn of(number: u64) -> Self {
        let mut digits = Self { all: [b'0'; 24], first: 24 };
        digits.prepend(number);
        digits
    }

    /// These nanoseconds as microseconds.
    #[inline]
    fn of_microseconds(nanos: u64) -> Self {
        let mut digits = Self { all: [b'0'; 24], first: 20 };
        digits.all[20] = b'.';
        digits.all[21..].copy_from_slice(three_digits(nanos));
        digits.prepend(nanos / 1000);
        digits
    }

    #[inline]
    fn prepend(&mut self, mut number: u64) {
        while number >= 1000 {
            self.first -= 3;
            self.all[self.first..][..3].copy_from_slice(three_digits(number));
            number /= 1000;
        }
        let zeros = usize::from(number < 100) + usize::from(number < 10);
        self.first -= 3;
        self.all[self.first..][..3].copy_from_slice(three_digits(number));
        self.first += zeros;
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.all[self.first..]
    }
}

/// The last three digits of a number.
#[inline]
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

    const RETURNED: u32 = 3;
    const RAISED: u32 = 4;

    fn text(number: u32) -> Text {
        match number {
            1 => Text::new("f", "m.f"),
            2 => Text::new("b\"\\\n", "b"),
            RETURNED => Text::new("returned", "returned"),
            RAISED => Text::new("raised LookupError", ""),
            _ => Text::new("g", "m.g"),
        }
    }

    fn write(pen: &mut Pen, record: Record) {
        let texts: Vec<Text> = (0..5).map(text).collect();
        pen.write(&thread_part(1, 2), &record, |number| &texts[number as usize]);
    }

    fn written(records: &[Record]) -> String {
        let mut pen = Pen::new(5_000_000);
        records.iter().for_each(|record| write(&mut pen, *record));
        String::from_utf8(pen.out).expect("all of it is text")
    }

    fn call(at: u64) -> Record {
        Record { kind: Kind::Call, at, id: 0, text: 1, other: 2 }
    }

    fn end_of_call(at: u64, other: u32) -> Record {
        Record { kind: Kind::CallEnd, at, id: 0, text: 1, other }
    }

    fn step(at: u64) -> Record {
        Record { kind: Kind::Step, at, id: 1_001, text: 0, other: 0 }
    }

    fn end_of_step(at: u64) -> Record {
        Record { kind: Kind::StepEnd, at, id: 1_001, text: 0, other: 0 }
    }

    #[test]
    fn a_call_that_goes_on_names_its_function_and_its_bridge() {
        assert_eq!(
            written(&[call(1_234)]),
            "{\"ph\":\"B\",\"cat\":\"call\",\"name\":\"f\",\"pid\":1,\"tid\":2,\"ts\":5001.234                 ,\
             \"args\":{\"function\":\"m.f\",\"bridge\":\"b\\\"\\\\\\u000a\"                     }},\n"
        );
    }

    #[test]
    fn a_call_that_has_ended_is_one_event() {
        assert_eq!(
            written(&[call(1_234), end_of_call(24_234, RETURNED)]),
            "{\"ph\":\"X\",\"cat\":\"call\",\"name\":\"f\",\"pid\":1,\"tid\":2,\"ts\":5001.234,\"dur\":    23.000,\
             \"args\":{\"function\":\"m.f\",\"bridge\":\"b\\\"\\\\\\u000a\",\"outcome\":\"returned\"}},\n"
        );
    }

    #[test]
    fn what_finds_no_room_has_an_event_of_its_own() {
        for end in [end_of_call(24_234, RAISED), end_of_call(1_000_001_234, RETURNED)] {
            let found = written(&[call(1_234), end]);
            let (begin, end) = found.split_once(",\n").expect("there are two");
            assert!(begin.starts_with("{\"ph\":\"B\"") && begin.contains("5001.234   "), "{found}");
            assert!(end.starts_with("{\"ph\":\"E\",\"name\":\"f\"") && end.contains("\"outcome\":\"r"), "{found}");
        }
        assert!(written(&[call(1), end_of_call(1_000_000_000, RETURNED)]).contains("\"dur\":999999.999,"));
    }

    #[test]
    fn only_the_outermost_slice_is_one_event() {
        let found = written(&[call(1), step(2), end_of_step(3), end_of_call(4, RETURNED)]);
        let phases: String = found.lines().map(|line| &line[PHASE..=PHASE]).collect();
        assert_eq!(phases, "XBtE");
        let found = written(&[step(2), end_of_step(3), step(4), end_of_step(6)]);
        assert_eq!(found.lines().map(|line| &line[PHASE..=PHASE]).collect::<String>(), "XtXt");
    }

    #[test]
    fn what_was_taken_away_gets_its_end_later() {
        let mut pen = Pen::new(0);
        write(&mut pen, step(2));
        pen.forget(pen.written().len());
        write(&mut pen, end_of_step(3));
        assert!(pen.written().starts_with(b"{\"ph\":\"E\""));
        pen.begin_thread(1);
        pen.forget(pen.written().len());
        write(&mut pen, end_of_step(3));
        assert!(pen.written().starts_with(b"{\"ph\":\"E\""));
        assert_eq!(pen.depth(), 0);
    }

    #[test]
    fn an_arrow_that_begins_outside_of_slices_has_one() {
        let sent = Record { kind: Kind::Sent, at: 0, id: 7, text: 1, other: 0 };
        assert_eq!(
            written(&[sent]),
            "{\"ph\":\"X\",\"cat\":\"sent\",\"name\":\"f\",\"pid\":1,\"tid\":2,\"ts\":5000.000,\"dur\":0.000,\
             \"args\":{\"function\":\"m.f\"}},\n\
             {\"ph\":\"s\",\"cat\":\"hop\",\"name\":\"hop\",\"pid\":1,\"tid\":2,\"ts\":5000.000,\"id\":7},\n"
        );
        assert!(!written(&[step(2), sent]).contains("\"sent\""));
    }

    #[test]
    fn times_have_all_their_digits() {
        let times = [0, 7, 999, 1_000, 999_999, 1_000_000, 1_002_003, 60_000_000, 12_345_678_901_234_567, 5, u64::MAX];
        let mut time = Time::default();
        for nanos in times {
            time.set(nanos);
            let expected = format!("{}.{:03}", nanos / 1000, nanos % 1000);
            assert_eq!(std::str::from_utf8(time.text()), Ok(&*expected));
            assert_eq!(std::str::from_utf8(Digits::of_microseconds(nanos).text()), Ok(&*expected));
        }
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 9, 10, 99, 100, 999, 1_000, 1_001, 65_536, 1_000_000, u64::MAX] {
            assert_eq!(std::str::from_utf8(Digits::of(number).text()), Ok(&*number.to_string()));
        }
    }

    #[test]
    fn a_turn_says_how_long_it_took() {
        assert_eq!(
            written(&[Record { kind: Kind::Turn, at: 0, id: 20_005, text: 0, other: 0 }]),
            "{\"ph\":\"X\",\"cat\":\"loop\",\"name\":\"turn\",\"pid\":1,\"tid\":2,\"ts\":5000.000,\"dur\":20.005},\n"
        );
    }
}
