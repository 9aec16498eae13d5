//! A trace: what many threads do, written into a file while they do it.
//!
//! Each thread notes records in a [`lane`](crate::lane) of its own. A thread of ours, the writer, empties the lanes twenty
//! times a second or when one is half full, and writes what they say ([`trace_pen`](crate::trace_pen)).
//!
//! Invariants:
//! 1. The file is a JSON array at any time, but for its end: what reads such files can do without the bracket there.
//! 2. Nobody but the writer touches the file. A forked child has no writer, and must not touch lanes either: a lane's lock
//!    may have been held at the fork.

use crate::lane::{Lane, Notes};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, lock, take};
use crate::trace_events::{Record, Text, quoted};
use crate::trace_pen::{Pen, thread_part};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(50);
/// So many bytes are written at once: what is in the processor's cache is written in half the time. And up to a multiple of
/// so many in the file, as whole pages take the kernel two thirds of what parts of them do.
const AT_ONCE: usize = 1 << 17;
/// The writer works for about so long at once, and then makes a pause: less than the half of what tells threads that hand
/// over to each other that others want the core ([`spin`](crate::spin)). They kept apart for thousands of calls then, which
/// took them more time than the writer did.
const LONGEST: Duration = Duration::from_micros(80);
const PAUSE: Duration = Duration::from_millis(1);

/// What a trace and its writer share.
struct Recording {
    pid: u32,
    lanes: Mutex<Vec<Arc<Notes>>>,
    /// Names of threads that the writer has not written yet.
    news: Mutex<String>,
    texts: Mutex<Vec<Arc<Text>>>,
    ending: AtomicBool,
    lost: AtomicU64,
}

impl Recording {
    fn count_lost(&self) -> u64 {
        let lanes = lock(&self.lanes).clone();
        self.lost.load(Relaxed) + lanes.iter().map(|lane| lane.lost()).sum::<u64>()
    }
}

pub struct Trace {
    shared: Arc<Recording>,
    writer: Thread,
    end: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Trace {
    /// Begins a trace of this process, which is `name`, into the file. `now` is the time in nanoseconds, on whatever
    /// clock the file is to have.
    pub fn begin(file: File, name: &str, now: u64) -> io::Result<Self> {
        let pid = std::process::id();
        let shared = Arc::new(Recording {
            pid,
            lanes: Mutex::default(),
            news: Mutex::new(format!(
                "[\n{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{pid},\"tid\":{pid},\"args\":{{\"name\":{}}}}},\n",
                quoted(name)
            )),
            texts: Mutex::new(vec![Arc::new(Text::new("a call", "a call"))]),
            ending: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let writing = Arc::clone(&shared);
        let end = thread::Builder::new().name("syncline-trace".to_owned()).spawn(move || {
            Writer {
                shared: writing,
                file,
                length: 0,
                since: Instant::now(),
                hurries: false,
                texts: Vec::new(),
                pen: Pen::new(now),
                failed: None,
            }
            .run()
        })?;
        Ok(Self { shared, writer: end.thread().clone(), end: Mutex::new(Some(end)) })
    }

    /// A lane for the calling thread, which has this number and this name.
    pub fn lane(&self, tid: u64, name: &str) -> Lane {
        let pid = self.shared.pid;
        let lane = Lane::new(thread_part(pid, tid), self.writer.clone());
        let mut news = lock(&self.shared.news);
        let _ = writeln!(
            news,
            "{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":{}}}}},",
            quoted(name)
        );
        drop(news);
        lock(&self.shared.lanes).push(Arc::clone(lane.notes()));
        lane
    }

    /// A number for the text, for records.
    pub fn text(&self, text: Text) -> u32 {
        let mut texts = lock(&self.shared.texts);
        let number = u32::try_from(texts.len()).unwrap_or(0);
        texts.push(Arc::new(text));
        number
    }

    /// How many records were lost, as threads made them faster than the file could be written.
    pub fn lost(&self) -> u64 {
        self.shared.count_lost()
    }

    /// Ends it, and waits for the writer. Only the first call does.
    pub fn end(&self) -> io::Result<()> {
        self.shared.ending.store(true, Release);
        let end = take(&self.end);
        self.writer.unpark();
        end.map_or(Ok(()), |end| end.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the trace failed"))))
    }
}

struct Writer {
    shared: Arc<Recording>,
    file: File,
    /// How many bytes it has, modulo `AT_ONCE`.
    length: usize,
    /// When it began to work, and whether somebody has woken it for that: a thread whose lane fills, or who ends the trace.
    since: Instant,
    hurries: bool,
    /// A copy of what is known so far.
    texts: Vec<Arc<Text>>,
    pen: Pen,
    failed: Option<io::Error>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        loop {
            // Read first: what is noted before the end is written.
            let is_last = self.shared.ending.load(Acquire);
            self.empty_lanes();
            if is_last {
                return self.finish();
            }
            self.write_out(self.pen.written().len());
            // A pause may have taken what would have woken it.
            if !self.shared.ending.load(Acquire) {
                self.sleep(EVERY);
            }
        }
    }

    /// Writes so many bytes of what the pen has. After an error nothing is written any more. The lanes are emptied all the
    /// same, and the file stays open until the end: a forked child closes its descriptor by number.
    fn write_out(&mut self, count: usize) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(&self.pen.written()[..count]).and_then(|()| self.file.flush()).err();
        }
        self.length = (self.length + count) % AT_ONCE;
        self.pen.forget(count);
    }

    fn sleep(&mut self, span: Duration) {
        let begun = Instant::now();
        thread::park_timeout(span);
        self.since = Instant::now();
        self.hurries = self.since - begun < span;
    }

    fn empty_lanes(&mut self) {
        let lanes = lock(&self.shared.lanes).clone();
        // After the lanes: whoever has a lane has told its name.
        self.pen.add(&take(&self.shared.news));
        for lane in &lanes {
            self.pen.begin_thread(lane.depth.load(Relaxed));
            lane.read(|record| {
                self.write(&lane.thread, &record);
                let count = AT_ONCE - self.length;
                if self.pen.written().len() >= count {
                    self.write_out(count);
                    if !self.hurries && self.since.elapsed() > LONGEST {
                        self.sleep(PAUSE);
                    }
                }
            });
            lane.depth.store(self.pen.depth(), Relaxed);
        }
        drop(lanes);
        // A lane that nobody else has is an ended thread's; `get_mut` sees all that the thread has noted.
        lock(&self.shared.lanes).retain_mut(|lane| {
            let is_of_ended_thread = Arc::get_mut(lane).is_some() && lane.is_empty();
            if is_of_ended_thread {
                self.shared.lost.fetch_add(lane.lost(), Relaxed);
            }
            !is_of_ended_thread
        });
    }

    fn write(&mut self, thread: &str, record: &Record) {
        static UNKNOWN: OnceLock<Text> = OnceLock::new();
        let highest = record.text.max(record.other) as usize;
        if highest >= self.texts.len() {
            let texts = lock(&self.shared.texts);
            self.texts.extend(texts[self.texts.len()..].iter().map(Arc::clone));
        }
        let texts = &self.texts;
        self.pen.write(thread, record, |number| match texts.get(number as usize) {
            Some(text) => text,
            None => UNKNOWN.get_or_init(|| Text::new("?", "?")),
        });
    }

    fn finish(mut self) -> io::Result<()> {
        let pid = self.shared.pid;
        let lost = self.shared.count_lost();
        self.pen.add(&format!(
            "{{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":{pid},\"tid\":{pid},\"args\":{{\"labels\":\"{lost} records \
             lost\"}}}}\n]\n"
        ));
        self.write_out(self.pen.written().len());
        self.failed.map_or(Ok(()), Err)
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;
    use crate::trace_events::Kind;

    fn file(name: &str) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("syncline-{}-{name}.json", std::process::id()));
        let file = File::create(&path).expect("the folder for temporary files can be written");
        (path, file)
    }

    fn read(path: &std::path::Path) -> String {
        let text = std::fs::read_to_string(path).expect("the file is there");
        std::fs::remove_file(path).expect("the file is ours");
        text
    }

    #[test]
    fn what_is_noted_is_in_the_file_at_the_end() {
        let (path, file) = file("noted");
        let trace = Trace::begin(file, "program", 0).expect("a thread can be started");
        let text = trace.text(Text::new("f", "m.f"));
        let mut lane = trace.lane(7, "a thread");
        lane.note(Record { kind: Kind::Step, at: 5, id: 3, text, other: 0 });
        trace.end().expect("the file can be written");
        assert_eq!(trace.lost(), 0);
        let found = read(&path);
        assert!(found.starts_with("[\n{") && found.ends_with("}\n]\n"), "{found}");
        assert!(found.contains("\"tid\":7,\"args\":{\"name\":\"a thread\"}"), "{found}");
        assert!(found.contains("\"name\":\"f\",\"pid\""), "{found}");
    }

    #[test]
    fn a_lane_is_forgotten_once_its_thread_has_ended_and_all_is_written() {
        let (path, file) = file("ended");
        let trace = Trace::begin(file, "program", 0).expect("a thread can be started");
        for number in 0..3 {
            let mut lane = trace.lane(number, "a thread");
            lane.note(Record { kind: Kind::StepEnd, at: 0, id: 0, text: 0, other: 0 });
        }
        trace.end().expect("the file can be written");
        assert!(lock(&trace.shared.lanes).is_empty());
        assert_eq!(read(&path).matches("\"ph\":\"E\"").count(), 3);
    }

    #[test]
    fn what_is_written_in_parts_is_whole() {
        let (path, file) = file("parts");
        let trace = Trace::begin(file, "program", 0).expect("a thread can be started");
        let mut lane = trace.lane(7, "a thread");
        let steps = 3 * AT_ONCE as u64 / 100;
        for number in 0..steps {
            lane.note(Record { kind: Kind::Step, at: 2 * number, id: number, text: 0, other: 0 });
            lane.note(Record { kind: Kind::StepEnd, at: 2 * number + 1, id: number, text: 0, other: 0 });
        }
        trace.end().expect("the file can be written");
        let found = read(&path);
        assert!(found.lines().skip(1).all(|line| line == "]" || line.starts_with('{') && line.ends_with(['}', ','])));
        let count = |phase: &str| found.matches(&format!("\"ph\":\"{phase}\"")).count() as u64;
        // Where a part ended in the middle of a step, that one has two events.
        assert!(count("E") == count("B") && count("B") as usize <= found.len() / AT_ONCE + 1, "{}", count("B"));
        assert_eq!((count("X") + count("B"), count("t")), (steps, steps));
    }
}
