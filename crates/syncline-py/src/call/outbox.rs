//! What waits for a loop's thread to let go of the interpreter: results that are known, worker threads that are called.

use crate::call::state::Call;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use syncline_core::pool::Announcement;
use syncline_core::spin::SLOW_ATTACH;
use syncline_core::sync::{Mutex, lock};

/// A result waits for others at most that long while its loop is busy.
const LONGEST_DELAY: Duration = Duration::from_micros(100);

#[derive(Default)]
struct Mail {
    calls: Vec<Arc<Call>>,
    announcements: Vec<Announcement>,
    oldest: Option<Instant>,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.announcements.is_empty()
    }
}

pub struct Outbox {
    mail: Mutex<Mail>,
    /// Whether somebody will flush soon; else each result is published at once.
    pub deferring: AtomicBool,
    /// Another thread hogs the interpreter: a caller that is woken only when this thread lets go comes behind that one.
    hurried: AtomicBool,
}

impl Outbox {
    pub fn new(deferring: bool) -> Arc<Self> {
        Arc::new(Self {
            mail: Mutex::default(),
            deferring: AtomicBool::new(deferring),
            hurried: AtomicBool::new(false),
        })
    }

    fn defers(&self) -> bool {
        self.deferring.load(Relaxed) && !self.hurried.load(Relaxed)
    }

    pub fn add(&self, call: &Arc<Call>) {
        if !self.defers() {
            call.publish();
            return;
        }
        let is_late = {
            let mut mail = lock(&self.mail);
            mail.calls.push(Arc::clone(call));
            mail.oldest.get_or_insert_with(Instant::now).elapsed() > LONGEST_DELAY
        };
        if is_late {
            self.flush();
        }
    }

    /// For a worker thread that spins, and is called.
    pub fn announce(&self, announcement: Announcement) {
        if self.defers() {
            lock(&self.mail).announcements.push(announcement);
        } else {
            announcement.make();
        }
    }

    /// Tells how long the loop's thread has waited for the interpreter.
    pub fn hurry(&self, attach_took: Duration) {
        self.hurried.store(attach_took > SLOW_ATTACH, Relaxed);
    }

    /// Returns how many callers have their result now.
    pub fn flush(&self) -> usize {
        let mut mail = {
            let mut mail = lock(&self.mail);
            if mail.is_empty() {
                return 0;
            }
            std::mem::take(&mut *mail)
        };
        mail.announcements.drain(..).for_each(|announcement| announcement.make());
        let published = mail.calls.len();
        mail.calls.drain(..).for_each(|call| call.publish());
        mail.oldest = None;
        // Keeps the vectors' memory for the next batch.
        let mut current = lock(&self.mail);
        if current.is_empty() {
            *current = mail;
        }
        published
    }

    /// Flushes, detached if there is anything.
    pub fn flush_soon(&self, py: Python<'_>) {
        if !lock(&self.mail).is_empty() {
            py.detach(|| _ = self.flush());
        }
    }
}
