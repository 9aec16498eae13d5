//! A mailbox: many senders, one loop that receives, and a wake-up only when the loop sleeps.
//!
//! A channel always wakes its receiver through its own means; a loop sleeps in `epoll_wait` and can only be woken by
//! a system call, which costs more than all the rest of a send. So the mailbox remembers whether the loop is parked,
//! and tells exactly one sender to wake it.
//!
//! Invariants:
//! 1. The queue, `parked` and `closed` change under one lock only. So no job is queued after `close`, and where a
//!    parked loop has mail, one sender was told to wake it, or has failed to.
//! 2. `count` is the queue's length. It is written under the lock, and read without it by a loop that spins.
//! 3. What a loop has begun to take is here until its turn comes, so that it can still be taken back.
//!
//! A lock and not a lock-free queue: it is held for some 20 ns, and with it closing is easy to get right.

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::{Mutex, lock};
use std::collections::VecDeque;

/// The room that a queue keeps. One that had more mail at once gives the rest back.
const KEPT_ROOM: usize = 1024;

/// The job that a closed mailbox did not take.
#[derive(Debug, Eq, PartialEq)]
pub struct SendError<T>(pub T);

/// Whether the sender has to wake the loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Sent {
    LoopIsAwake,
    WakeTheLoop,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    /// What came before that, and is being taken (3).
    batch: VecDeque<T>,
    parked: bool,
    closed: bool,
}

#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    count: AtomicUsize,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { queue: VecDeque::new(), batch: VecDeque::new(), parked: false, closed: false }),
            count: AtomicUsize::new(0),
        }
    }
}

impl<T> Mailbox<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn send(&self, job: T) -> Result<Sent, SendError<T>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(SendError(job));
        }
        state.queue.push_back(job);
        self.count.store(state.queue.len(), Release);
        // By 1: the first sender after `park` takes the flag, and with it the duty to wake.
        if std::mem::take(&mut state.parked) { Ok(Sent::WakeTheLoop) } else { Ok(Sent::LoopIsAwake) }
    }

    /// Whether there may be mail, without taking the lock.
    pub fn has_mail(&self) -> bool {
        self.count() > 0
    }

    /// How much mail there is, about, without taking the lock.
    pub fn count(&self) -> usize {
        self.count.load(Acquire)
    }

    /// Moves all mail into `into`, and unparks the loop. Returns whether `into` holds any. The queue and an empty
    /// `into` are swapped; with `keep_room` neither has to allocate anew each time.
    pub fn drain(&self, into: &mut VecDeque<T>) -> bool {
        let mut state = lock(&self.state);
        state.parked = false;
        self.count.store(0, Release);
        if into.is_empty() {
            into.shrink_to(KEPT_ROOM);
            std::mem::swap(&mut state.queue, into);
        } else {
            into.append(&mut state.queue);
        }
        !into.is_empty()
    }

    /// Gives a queue back that was drained into and is empty now: the next mail needs no new memory.
    pub fn keep_room(&self, emptied: VecDeque<T>) {
        let mut state = lock(&self.state);
        if state.queue.capacity() == 0 && emptied.capacity() <= KEPT_ROOM {
            state.queue = emptied;
        }
    }

    /// Unparks the loop, and begins to take all mail that is there, one by one: the first, and whether there is more of it.
    /// Neither queue has to be allocated anew each time.
    pub fn take_first(&self) -> Option<(T, bool)> {
        let mut state = lock(&self.state);
        state.parked = false;
        self.count.store(0, Release);
        let State { queue, batch, .. } = &mut *state;
        if batch.is_empty() {
            batch.shrink_to(KEPT_ROOM);
            std::mem::swap(queue, batch);
        } else {
            batch.append(queue);
        }
        let first = batch.pop_front()?;
        Some((first, !batch.is_empty()))
    }

    /// The next one of what was there at the last `take_first`, and whether there is more of it.
    pub fn take_next(&self) -> Option<(T, bool)> {
        let batch = &mut lock(&self.state).batch;
        let next = batch.pop_front()?;
        Some((next, !batch.is_empty()))
    }

    /// What `look` finds in the first job in which it finds anything. For any thread, as is `take_back`.
    pub fn find<R>(&self, look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let state = lock(&self.state);
        state.batch.iter().chain(&state.queue).find_map(look)
    }

    /// Takes those jobs back which the loop has not taken yet.
    pub fn take_back(&self, mut is_it: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = lock(&self.state);
        let mut taken = Vec::new();
        let State { queue, batch, .. } = &mut *state;
        for jobs in [batch, queue] {
            for _ in 0..jobs.len() {
                match jobs.pop_front() {
                    Some(job) if is_it(&job) => taken.push(job),
                    Some(job) => jobs.push_back(job),
                    None => {}
                }
            }
        }
        self.count.store(state.queue.len(), Release);
        taken
    }

    /// Says that the loop is about to sleep. False if there is mail to see to first: then it is not parked.
    pub fn park(&self) -> bool {
        let mut state = lock(&self.state);
        state.parked = state.queue.is_empty();
        state.parked
    }

    /// Says that the loop is awake, whoever woke it.
    pub fn unpark(&self) {
        lock(&self.state).parked = false;
    }

    /// Says that the sender which was told to wake the loop could not do it: the next one is told, too.
    pub fn wake_failed(&self) {
        lock(&self.state).parked = true;
    }

    /// Refuses all further mail, and returns what was left.
    pub fn close(&self) -> VecDeque<T> {
        let mut state = lock(&self.state);
        state.closed = true;
        self.count.store(0, Release);
        let mut left = std::mem::take(&mut state.batch);
        left.append(&mut state.queue);
        left
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_sender_after_a_park_wakes_the_loop() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
        assert!(!mailbox.park());
        let mut mail = VecDeque::new();
        assert!(mailbox.drain(&mut mail));
        assert!(mailbox.park());
        assert_eq!(mailbox.send(2), Ok(Sent::WakeTheLoop));
        assert_eq!(mailbox.send(3), Ok(Sent::LoopIsAwake));
        mail.clear();
        assert!(mailbox.drain(&mut mail));
        assert_eq!(mail, [2, 3]);
    }

    #[test]
    fn after_a_wake_that_failed_the_next_sender_wakes_the_loop() {
        let mailbox = Mailbox::new();
        assert!(mailbox.park());
        assert_eq!(mailbox.send(1), Ok(Sent::WakeTheLoop));
        mailbox.wake_failed();
        assert_eq!(mailbox.send(2), Ok(Sent::WakeTheLoop));
        assert_eq!(mailbox.send(3), Ok(Sent::LoopIsAwake));
        let mut mail = VecDeque::new();
        assert!(mailbox.drain(&mut mail));
        assert_eq!(mail, [1, 2, 3]);
    }

    #[test]
    fn after_a_peak_the_queues_memory_is_given_back() {
        let mailbox = Mailbox::new();
        let take_all = || std::iter::successors(mailbox.take_first(), |_| mailbox.take_next()).count();
        for job in 0..100_000 {
            assert_eq!(mailbox.send(job), Ok(Sent::LoopIsAwake));
        }
        assert_eq!(take_all(), 100_000);
        for _ in 0..2 {
            assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
            assert_eq!(take_all(), 1);
        }
        let state = lock(&mailbox.state);
        assert!(state.batch.capacity() <= KEPT_ROOM && state.queue.capacity() <= KEPT_ROOM);
    }

    #[test]
    fn a_queue_that_is_given_back_serves_the_next_mail() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
        let mut mail = VecDeque::new();
        mailbox.drain(&mut mail);
        mail.clear();
        let room = mail.as_slices().0.as_ptr();
        mailbox.keep_room(mail);
        assert_eq!(mailbox.send(2), Ok(Sent::LoopIsAwake));
        mailbox.keep_room(VecDeque::new());
        assert_eq!(lock(&mailbox.state).queue, [2]);
        assert_eq!(lock(&mailbox.state).queue.as_slices().0.as_ptr(), room);
    }

    #[test]
    fn what_comes_while_mail_is_taken_comes_after_it() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.take_first(), None);
        assert_eq!((mailbox.send(1), mailbox.send(2)), (Ok(Sent::LoopIsAwake), Ok(Sent::LoopIsAwake)));
        assert_eq!(mailbox.take_first(), Some((1, true)));
        assert_eq!(mailbox.send(3), Ok(Sent::LoopIsAwake));
        assert_eq!((mailbox.take_next(), mailbox.take_next()), (Some((2, false)), None));
        assert!(mailbox.has_mail() && !mailbox.park());
        assert_eq!(mailbox.take_first(), Some((3, false)));
    }

    #[test]
    fn mail_can_be_taken_back_until_its_turn_comes() {
        let mailbox = Mailbox::new();
        for job in 1..=4 {
            assert_eq!(mailbox.send(job), Ok(Sent::LoopIsAwake));
        }
        assert_eq!(mailbox.take_first(), Some((1, true)));
        for job in 5..=6 {
            assert_eq!(mailbox.send(job), Ok(Sent::LoopIsAwake));
        }
        assert_eq!(mailbox.find(|job| (job % 2 == 0).then_some(job * 10)), Some(20));
        assert_eq!(mailbox.take_back(|job| job % 2 == 0), [2, 4, 6]);
        assert_eq!(mailbox.count(), 1);
        assert_eq!(mailbox.take_next(), Some((3, false)));
        assert_eq!(mailbox.close(), [5]);
    }

    #[test]
    fn a_closed_mailbox_gives_every_job_back() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(mailbox.send(2), Err(SendError(2)));
        assert!(mailbox.is_closed());
        assert!(!mailbox.has_mail());
    }
}
