//! What waits for a loop's thread to let go of the interpreter: results that are known, worker threads that are called.
//!
//! Whoever is woken earlier only collides with a thread that still holds the interpreter.
//!
//! Invariants:
//! 1. What is added is published once: at once, or by the next flush. 2. After `stop_deferring` and a flush nothing is left
//!    here, and nothing comes to lie here any more: who adds looks again after it has added. 3. The loop's thread flushes
//!    before it sleeps.

use crate::pool::Announcement;
use crate::spin::SLOW_ATTACH;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, lock, replace};
use std::time::{Duration, Instant};

/// While others are added, nothing waits for longer than that.
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
    /// Whether somebody will flush soon; else each result is published at once.
    deferring: AtomicBool,
    /// Another thread hogs the interpreter: a taker that is woken only when this thread lets go comes behind that one.
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
        // By 2.
        if is_late || !self.defers() {
            self.flush();
        }
    }

    /// For a worker thread that spins, and is called.
    pub fn announce(&self, announcement: Announcement) {
        if !self.defers() {
            announcement.make();
            return;
        }
        lock(&self.held).announcements.push(announcement);
        // By 2.
        if !self.defers() {
            self.flush();
        }
    }

    pub fn start_deferring(&self) {
        self.deferring.store(true, Relaxed);
    }

    /// A flush has to follow.
    pub fn stop_deferring(&self) {
        self.deferring.store(false, Relaxed);
    }

    /// Tells how long the loop's thread has waited for the interpreter.
    pub fn hurry(&self, attach_took: Duration) {
        self.hurried.store(attach_took > SLOW_ATTACH, Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.held).is_empty()
    }

    /// Publishes what is there; returns how many results that were.
    pub fn flush(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut held = replace(&self.held, Held::default());
        held.announcements.drain(..).for_each(|announcement| announcement.make());
        let published = held.results.len();
        held.results.drain(..).for_each(|result| result.publish());
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
