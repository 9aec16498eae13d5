//! What waits until a loop's thread lets go of the interpreter: results that are known, calls for worker threads.
//!
//! Whoever is woken earlier only collides with a thread that still holds the interpreter. A callback of the loop may
//! block before the next flush. That is seldom, and delays a result by some milliseconds only: then its taker looks
//! into the slot by itself. The result of a taker that has waited for longer is published at once, without coming
//! here.
//!
//! Invariants:
//! 1. What is added is published exactly once: at once, or by the next flush.
//! 2. After `stop_deferring` and a flush nothing is left here, and nothing stays here any more: whoever has added
//!    something looks again whether it is still to be deferred, and flushes if not.
//! 3. The loop's thread flushes before it sleeps.

use crate::pool::Announcement;
use crate::spin::SLOW_ATTACH;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, lock, replace};
use std::time::{Duration, Instant};

/// A result that is added flushes all, if the oldest has waited for longer than that.
const LONGEST_DELAY: Duration = Duration::from_micros(100);

/// A result whose taker may be woken.
pub trait Publish {
    fn publish(&self);
}

impl<T: Publish + ?Sized> Publish for Arc<T> {
    fn publish(&self) {
        (**self).publish();
    }
}

#[derive(Debug)]
struct Held<T> {
    results: Vec<T>,
    announcements: Vec<Announcement>,
    oldest: Option<Instant>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { results: Vec::new(), announcements: Vec::new(), oldest: None }
    }
}

impl<T> Held<T> {
    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.announcements.is_empty()
    }
}

#[derive(Debug)]
pub struct Outbox<T> {
    held: Mutex<Held<T>>,
    /// Whether the loop's thread will flush soon; if not, each result is published at once.
    deferring: AtomicBool,
    /// Another thread hogs the interpreter. A taker that is woken only when this thread lets go of it would queue for
    /// it behind that other thread.
    hurried: AtomicBool,
}

impl<T: Publish> Outbox<T> {
    pub fn new(deferring: bool) -> Self {
        Self { held: Mutex::default(), deferring: AtomicBool::new(deferring), hurried: AtomicBool::new(false) }
    }

    fn defers(&self) -> bool {
        self.deferring.load(Relaxed) && !self.hurried.load(Relaxed)
    }

    pub fn add(&self, result: T) {
        if !self.defers() {
            result.publish();
            return;
        }
        let is_late = {
            let mut held = lock(&self.held);
            held.results.push(result);
            held.oldest.get_or_insert_with(Instant::now).elapsed() > LONGEST_DELAY
        };
        // By 2: `stop_deferring` and the last flush may have come after the first look.
        if is_late || !self.defers() {
            self.flush();
        }
    }

    /// As `add`, for a worker thread that spins and is called for a job.
    pub fn announce(&self, announcement: Announcement) {
        if !self.defers() {
            announcement.make();
            return;
        }
        lock(&self.held).announcements.push(announcement);
        // By 2, as in `add`.
        if !self.defers() {
            self.flush();
        }
    }

    pub fn start_deferring(&self) {
        self.deferring.store(true, Relaxed);
    }

    /// A flush has to follow. Whether anything was deferred until now.
    pub fn stop_deferring(&self) -> bool {
        self.deferring.swap(false, Relaxed)
    }

    /// Notes how long the loop's thread has waited for the interpreter: after a long wait nothing is deferred.
    pub fn hurry(&self, attach_took: Duration) {
        self.hurried.store(attach_took > SLOW_ATTACH, Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.held).is_empty()
    }

    /// Publishes all that is there, and returns how many results that were.
    pub fn flush(&self) -> usize {
        self.flush_to(drop)
    }

    /// As `flush`, for one who must not drop a result here: hands each over when it is published.
    pub fn flush_to(&self, mut keep: impl FnMut(T)) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut held = replace(&self.held, Held::default());
        held.announcements.drain(..).for_each(|announcement| announcement.make());
        let published = held.results.len();
        for result in held.results.drain(..) {
            result.publish();
            keep(result);
        }
        held.oldest = None;
        // Keeps the vectors' memory for the next batch.
        let mut current = lock(&self.held);
        if current.is_empty() {
            std::mem::swap(&mut *current, &mut held);
        }
        published
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    struct Counted(Rc<Cell<u32>>);

    impl Publish for Counted {
        fn publish(&self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn results_wait_for_the_flush() {
        let (outbox, published) = (Outbox::new(true), Rc::new(Cell::new(0)));
        outbox.add(Counted(Rc::clone(&published)));
        assert_eq!(published.get(), 0);
        assert_eq!(outbox.flush(), 1);
        assert_eq!((published.get(), outbox.flush()), (1, 0));
    }

    #[test]
    fn nothing_waits_where_nobody_flushes_or_another_thread_hogs_the_interpreter() {
        let (outbox, published) = (Outbox::new(false), Rc::new(Cell::new(0)));
        outbox.add(Counted(Rc::clone(&published)));
        outbox.start_deferring();
        outbox.hurry(SLOW_ATTACH * 2);
        outbox.add(Counted(Rc::clone(&published)));
        assert_eq!(published.get(), 2);
    }
}
