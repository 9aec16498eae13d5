//! What a thread notes for a trace is read whole, once, and in order.

use crate::common::{model, thread};
use syncline_core::lane::Lane;
use syncline_core::sync::Arc;
use syncline_core::trace_events::{Kind, Record};

fn record(id: u64) -> Record {
    Record { kind: Kind::Job, at: id, id, text: 0, other: 0 }
}

/// Over the end of a chunk, while the writer reads.
#[test]
fn the_writer_finds_whole_records_in_order() {
    model(|| {
        let mut lane = Lane::new(String::new(), std::thread::current());
        let notes = Arc::clone(lane.notes());
        let noting = thread::spawn(move || (1..=3).for_each(|id| lane.note(record(id))));
        let mut found = Vec::new();
        notes.read(|record| found.push(record));
        assert!(noting.join().is_ok());
        notes.read(|record| found.push(record));
        assert_eq!(found, [record(1), record(2), record(3)]);
        assert!(notes.is_empty());
    });
}

/// In chunks that were read before: none is read twice, and what found no room is counted.
#[test]
fn a_chunk_that_was_read_is_filled_again() {
    model(|| {
        let mut lane = Lane::new(String::new(), std::thread::current());
        let notes = Arc::clone(lane.notes());
        let noting = thread::spawn(move || (1..=5).for_each(|id| lane.note(record(id))));
        let mut found = Vec::new();
        notes.read(|record| found.push(record));
        assert!(noting.join().is_ok());
        notes.read(|record| found.push(record));
        assert_eq!(found.len() as u64 + notes.lost(), 5);
        assert!(found.iter().enumerate().all(|(at, found)| *found == record(at as u64 + 1)));
    });
}
