//! What several models are made of.

#[cfg(loom)]
pub use loom::{model, thread};
use std::collections::VecDeque;
#[cfg(miri)]
pub use std::thread;
use syncline_core::latch::{Latch, Waited};
use syncline_core::mailbox::{Mailbox, SendError, Sent};
use syncline_core::slot::Slot;
use syncline_core::sync::{Arc, Condvar, Mutex, lock};

/// What stands for the eventfd that wakes a loop: rung by senders, heard by one loop, which forgets it then.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.heard.notify_one();
    }

    pub fn listen(&self) {
        let mut rung = lock(&self.rung);
        while !*rung {
            rung = match self.heard.wait(rung) {
                Ok(rung) => rung,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        *rung = false;
    }
}

/// A mailbox and the bell of its loop, used as the runner uses them.
pub struct Post<T> {
    pub mailbox: Mailbox<T>,
    bell: Bell,
}

impl<T> Post<T> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { mailbox: Mailbox::new(), bell: Bell::default() })
    }

    /// As any thread does.
    pub fn send(&self, job: T) -> Result<(), SendError<T>> {
        if self.mailbox.send(job)? == Sent::WakeTheLoop {
            self.bell.ring();
        }
        Ok(())
    }

    /// One turn of the loop.
    pub fn receive(&self, mail: &mut VecDeque<T>) {
        if self.mailbox.park() {
            self.bell.listen();
            self.mailbox.unpark();
        }
        self.mailbox.drain(mail);
    }
}

/// Miri goes through one order in a run.
#[cfg(miri)]
pub fn model(model: impl Fn()) {
    model();
}

#[cfg(miri)]
pub use self::model as model_of_three;

/// For two threads besides the first: all orders with up to four preemptions, which takes seconds; six take half a
/// minute.
#[cfg(loom)]
pub fn model_of_three(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(model);
}

pub fn wait_until_open(latch: &Latch) {
    while latch.wait(None) != Waited::Open {}
}

pub fn wait_until_published<T>(slot: &Slot<T>) {
    while slot.wait(None) != Waited::Open {}
}

pub fn fill_and_publish<T>(slot: &Slot<T>, value: T) -> bool {
    let won = slot.fill(value).is_ok();
    slot.publish();
    won
}
