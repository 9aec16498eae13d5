//! A trace: what many threads do, written into a file while they do it.
//!
//! Each thread notes records in a lane of its own. A thread of ours, the writer, empties the lanes twenty times a second
//! or when one is half full, and writes what they say ([`trace_events`](crate::trace_events)).
//!
//! Invariants:
//! 1. A lane has room for a certain number of records. What comes while it is full is lost, and counted.
//! 2. The file is a JSON array at any time, but for its end: what reads such files can do without the bracket there.
//! 3. Nobody but the writer touches the file. A forked child has no writer, and must not touch lanes either: the writer
//!    may have held one's lock at the fork.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, lock, replace, take};
use crate::trace_events::{Pen, Record, Text, quoted};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// So many records a thread may have until the writer comes: 4 MB (by 1).
const ROOM: usize = 1 << 17;
const EVERY: Duration = Duration::from_millis(50);

/// Where one thread notes what it does.
pub struct Lane {
    /// `,"pid":...,"tid":...`
    thread: String,
    records: Mutex<Vec<Record>>,
    lost: AtomicU64,
    writer: Thread,
}

impl Lane {
    pub fn note(&self, record: Record) {
        let mut records = lock(&self.records);
        let count = records.len();
        if count == ROOM {
            drop(records);
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        records.push(record);
        drop(records);
        if count == ROOM / 2 {
            self.writer.unpark();
        }
    }
}

struct Shared {
    pid: u32,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Names of threads that the writer has not written yet.
    news: Mutex<String>,
    texts: Mutex<Vec<Arc<Text>>>,
    ending: AtomicBool,
    lost: AtomicU64,
}

impl Shared {
    fn count_lost(&self) -> u64 {
        let lanes = lock(&self.lanes).clone();
        self.lost.load(Relaxed) + lanes.iter().map(|lane| lane.lost.load(Relaxed)).sum::<u64>()
    }
}

pub struct Trace {
    begun: Instant,
    shared: Arc<Shared>,
    writer: Thread,
    end: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Trace {
    /// Begins a trace of this process, which is `name`, into the file. `now` is the time in nanoseconds, on whatever clock
    /// the file is to have.
    pub fn begin(file: File, name: &str, now: u64) -> io::Result<Self> {
        let begun = Instant::now();
        let pid = std::process::id();
        let shared = Arc::new(Shared {
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
            let (texts, spare, out, begun, failed) = (Vec::new(), Vec::new(), String::new(), now, None);
            Writer { shared: writing, file, texts, spare, out, begun, failed }.run()
        })?;
        Ok(Self { begun, shared, writer: end.thread().clone(), end: Mutex::new(Some(end)) })
    }

    /// Nanoseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A lane for the calling thread, which has this number and this name.
    pub fn lane(&self, tid: u64, name: &str) -> Arc<Lane> {
        let pid = self.shared.pid;
        let lane = Arc::new(Lane {
            thread: format!(",\"pid\":{pid},\"tid\":{tid}"),
            records: Mutex::default(),
            lost: AtomicU64::new(0),
            writer: self.writer.clone(),
        });
        let mut news = lock(&self.shared.news);
        let _ = writeln!(
            news,
            "{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":{}}}}},",
            quoted(name)
        );
        drop(news);
        lock(&self.shared.lanes).push(Arc::clone(&lane));
        lane
    }

    /// A number for the text, for records.
    pub fn text(&self, text: Text) -> u32 {
        let mut texts = lock(&self.shared.texts);
        let number = u32::try_from(texts.len()).unwrap_or(0);
        texts.push(Arc::new(text));
        number
    }

    /// How many records were lost (by 1).
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
    shared: Arc<Shared>,
    file: File,
    /// A copy of what is known so far.
    texts: Vec<Arc<Text>>,
    /// Takes the place of a lane's records: memory that is there already.
    spare: Vec<Record>,
    out: String,
    begun: u64,
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
            self.write_out();
            thread::park_timeout(EVERY);
        }
    }

    /// After an error nothing is written any more. The lanes are emptied all the same, and the file stays open until the
    /// end: a forked child closes its descriptor by number.
    fn write_out(&mut self) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(self.out.as_bytes()).and_then(|()| self.file.flush()).err();
        }
        self.out.clear();
    }

    fn empty_lanes(&mut self) {
        let lanes = lock(&self.shared.lanes).clone();
        // After the lanes: whoever has a lane has told its name.
        self.out.push_str(&take(&self.shared.news));
        for lane in &lanes {
            let mut records = replace(&lane.records, std::mem::take(&mut self.spare));
            for record in &records {
                self.write(lane, record);
            }
            records.clear();
            self.spare = records;
        }
        drop(lanes);
        let mut lanes = lock(&self.shared.lanes);
        lanes.retain(|lane| {
            let is_of_ended_thread = Arc::strong_count(lane) == 1 && lock(&lane.records).is_empty();
            if is_of_ended_thread {
                self.shared.lost.fetch_add(lane.lost.load(Relaxed), Relaxed);
            }
            !is_of_ended_thread
        });
    }

    fn write(&mut self, lane: &Lane, record: &Record) {
        static UNKNOWN: OnceLock<Text> = OnceLock::new();
        let highest = record.text.max(record.other) as usize;
        if highest >= self.texts.len() {
            let texts = lock(&self.shared.texts);
            self.texts.extend(texts[self.texts.len()..].iter().map(Arc::clone));
        }
        let texts = &self.texts;
        Pen { out: &mut self.out, thread: &lane.thread, begun: self.begun }.write(record, |number| {
            match texts.get(number as usize) {
                Some(text) => text,
                None => UNKNOWN.get_or_init(|| Text::new("?", "?")),
            }
        });
    }

    fn finish(mut self) -> io::Result<()> {
        let pid = self.shared.pid;
        let lost = self.shared.count_lost();
        let _ = write!(
            self.out,
            "{{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":{pid},\"tid\":{pid},\"args\":{{\"labels\":\"{lost} records \
             lost\"}}}}\n]\n"
        );
        self.write_out();
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
        let lane = trace.lane(7, "a thread");
        lane.note(Record { kind: Kind::Step, at: trace.now(), id: 3, text, other: 0 });
        trace.end().expect("the file can be written");
        assert_eq!(trace.lost(), 0);
        let found = read(&path);
        assert!(found.starts_with("[\n{") && found.ends_with("}\n]\n"), "{found}");
        assert!(found.contains("\"tid\":7,\"args\":{\"name\":\"a thread\"}"), "{found}");
        assert!(found.contains("\"name\":\"f\",\"pid\""), "{found}");
    }

    #[test]
    fn a_full_lane_loses_records_and_counts_them() {
        let record = Record { kind: Kind::StepEnd, at: 0, id: 0, text: 0, other: 0 };
        let lane = Lane {
            thread: String::new(),
            records: Mutex::new(vec![record; ROOM - 1]),
            lost: AtomicU64::new(0),
            writer: thread::current(),
        };
        (0..11).for_each(|_| lane.note(record));
        assert_eq!(lock(&lane.records).len(), ROOM);
        assert_eq!(lane.lost.load(Relaxed), 10);
    }

    #[test]
    fn a_lane_is_forgotten_once_its_thread_has_ended_and_all_is_written() {
        let (path, file) = file("ended");
        let trace = Trace::begin(file, "program", 0).expect("a thread can be started");
        for number in 0..3 {
            let lane = trace.lane(number, "a thread");
            lane.note(Record { kind: Kind::StepEnd, at: 0, id: 0, text: 0, other: 0 });
        }
        trace.end().expect("the file can be written");
        assert!(lock(&trace.shared.lanes).is_empty());
        assert_eq!(read(&path).matches("\"ph\":\"E\"").count(), 3);
    }
}
