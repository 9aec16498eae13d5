//! Where one thread notes what it does, for a [`trace`](crate::trace), and where the writer of the trace reads it. A lock
//! for each record would cost that thread more than all the rest: so records lie in chunks of atomic words, and only what
//! concerns a whole chunk is done under a lock.
//!
//! Invariants:
//! 1. A record is there once the chunk's count says so, which is stored after its words. Only the lane's thread stores, and
//!    only the writer reads: [`Lane::note`] wants the lane for itself, of which there is no copy, and the writer is one
//!    thread.
//! 2. The thread goes on to the next chunk when one is full. The writer, when it has read a full one, lays it aside empty
//!    for the thread to take again: memory made anew for each chunk cost the thread more than its records.
//! 3. A lane has room for a certain number of chunks. What comes while they are all full is lost, and counted.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use crate::sync::{Arc, Mutex, lock};
use crate::trace_events::Record;
use std::collections::VecDeque;
use std::thread::Thread;

/// Records of a chunk: 24 KB.
#[cfg(not(loom))]
const SIZE: usize = 1024;
#[cfg(loom)]
const SIZE: usize = 2;
/// So many chunks a thread may have until the writer comes (by 3): 131,072 records, 3 MB.
#[cfg(not(loom))]
pub const MOST: usize = 128;
#[cfg(loom)]
pub const MOST: usize = 2;

struct Chunk {
    // On the heap from the first: a thread may have a stack of 32 KB.
    words: Box<[[AtomicU64; Record::WORDS]]>,
    count: AtomicUsize,
}

impl Chunk {
    fn new() -> Arc<Self> {
        let words = (0..SIZE).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Arc::new(Self { words, count: AtomicUsize::new(0) })
    }
}

/// The thread's side.
pub struct Lane {
    notes: Arc<Notes>,
    chunk: Arc<Chunk>,
    /// How many records `chunk` has.
    count: usize,
}

/// What both sides have.
pub struct Notes {
    /// As events have it: `trace_pen::thread_part`.
    pub thread: String,
    /// The writer's own: how many slices of the thread have begun in the file, and have not ended.
    pub depth: AtomicUsize,
    unread: Mutex<Unread>,
    lost: AtomicU64,
    writer: Thread,
}

struct Unread {
    /// The oldest first; the last one is the thread's own.
    chunks: VecDeque<Arc<Chunk>>,
    /// How many records of the first one are read.
    read: usize,
    /// What was read, and is empty again (by 2).
    spare: Vec<Arc<Chunk>>,
}

impl Lane {
    /// Has the writer unparked when half of its chunks are full.
    pub fn new(thread: String, writer: Thread) -> Self {
        let chunk = Chunk::new();
        let unread = Mutex::new(Unread { chunks: VecDeque::from([Arc::clone(&chunk)]), read: 0, spare: Vec::new() });
        let notes = Notes { thread, depth: AtomicUsize::new(0), unread, lost: AtomicU64::new(0), writer };
        Self { notes: Arc::new(notes), chunk, count: 0 }
    }

    pub fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    #[inline]
    pub fn note(&mut self, record: Record) {
        if self.count == SIZE && !self.go_on() {
            return;
        }
        let words = &self.chunk.words[self.count];
        for (word, value) in words.iter().zip(record.to_words()) {
            word.store(value, Relaxed);
        }
        self.count += 1;
        // By 1.
        self.chunk.count.store(self.count, Release);
    }

    /// Takes a new chunk. False if it may have no more (by 3).
    #[cold]
    fn go_on(&mut self) -> bool {
        let mut unread = lock(&self.notes.unread);
        let count = unread.chunks.len();
        if count >= MOST {
            drop(unread);
            self.notes.lost.fetch_add(1, Relaxed);
            return false;
        }
        self.chunk = unread.spare.pop().unwrap_or_else(Chunk::new);
        self.count = 0;
        unread.chunks.push_back(Arc::clone(&self.chunk));
        drop(unread);
        if count == MOST / 2 {
            self.notes.writer.unpark();
        }
        true
    }
}

impl Notes {
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Calls `each` with the records that were not read before.
    pub fn read(&self, mut each: impl FnMut(Record)) {
        loop {
            let (chunk, read) = {
                let unread = lock(&self.unread);
                let Some(first) = unread.chunks.front() else { return };
                (Arc::clone(first), unread.read)
            };
            let count = chunk.count.load(Acquire);
            for words in &chunk.words[read..count] {
                each(Record::from_words(std::array::from_fn(|at| words[at].load(Relaxed))));
            }
            let mut unread = lock(&self.unread);
            if count < SIZE {
                unread.read = count;
                return;
            }
            // By 2.
            if let Some(full) = unread.chunks.pop_front() {
                full.count.store(0, Relaxed);
                unread.spare.push(full);
            }
            unread.read = 0;
        }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        let unread = lock(&self.unread);
        unread.chunks.front().is_none_or(|first| first.count.load(Acquire) == unread.read)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::trace_events::Kind;
    use std::thread;

    fn record(id: u64) -> Record {
        Record { kind: Kind::Job, at: id * 3, id, text: 7, other: u32::MAX }
    }

    fn read(notes: &Notes) -> Vec<Record> {
        let mut found = Vec::new();
        notes.read(|record| found.push(record));
        found
    }

    #[test]
    fn what_is_noted_is_read_once_and_as_it_was() {
        let mut lane = Lane::new(String::new(), thread::current());
        (0..3).for_each(|id| lane.note(record(id)));
        assert_eq!(read(lane.notes()), [record(0), record(1), record(2)]);
        lane.note(record(3));
        assert!(!lane.notes().is_empty());
        assert_eq!(read(lane.notes()), [record(3)]);
        assert!(lane.notes().is_empty());
    }

    #[test]
    fn a_full_lane_loses_records_and_counts_them_until_it_was_read() {
        let mut lane = Lane::new(String::new(), thread::current());
        let room = (MOST * SIZE) as u64;
        (0..room + 11).for_each(|id| lane.note(record(id)));
        assert_eq!(lane.notes().lost(), 11);
        assert_eq!(read(lane.notes()).len() as u64, room);
        lane.note(record(5));
        assert_eq!(read(lane.notes()), [record(5)]);
        assert_eq!(lane.notes().lost(), 11);
    }

    #[test]
    fn what_was_read_is_filled_again_and_is_not_read_twice() {
        let mut lane = Lane::new(String::new(), thread::current());
        let first = Arc::clone(&lane.chunk);
        (0..SIZE as u64).for_each(|id| lane.note(record(id)));
        assert_eq!(read(lane.notes()).len(), SIZE);
        assert!(lane.notes().is_empty());
        lane.note(record(9));
        assert!(Arc::ptr_eq(&lane.chunk, &first));
        assert_eq!(read(lane.notes()), [record(9)]);
    }

    #[test]
    fn a_reader_beside_the_thread_finds_all_in_order() {
        let mut lane = Lane::new(String::new(), thread::current());
        let notes = Arc::clone(lane.notes());
        let count = 20 * SIZE as u64;
        let noting = thread::spawn(move || (0..count).for_each(|id| lane.note(record(id))));
        let mut next = 0;
        while next < count {
            notes.read(|found| {
                assert_eq!(found, record(next));
                next += 1;
            });
        }
        noting.join().expect("it only notes");
        assert_eq!(notes.lost(), 0);
    }
}
