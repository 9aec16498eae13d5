//! A pool of worker threads: who takes which job, who sleeps, who goes home.
//!
//! Elsewhere each job wakes a thread. Under the interpreter lock that is a waste: a hundred short jobs are done fastest by
//! one thread that never sleeps in between. But any of them may block, and the others must not wait for it. So jobs lie
//! in one queue, and one worker at a time is called for them; a worker that takes a job and sees that there are more
//! calls the next one before it runs its own.
//!
//! Invariants:
//! 1. While there are jobs, somebody is called (and has not looked yet), or starts, or a worker that works looks again
//!    when it is done and nobody could be started. 2. Queue, stack and `called` change under one lock. 3. A worker on the
//!    stack is asleep or about to be; whoever calls it takes it off. Only a worker that takes itself off retires: one that
//!    was called looks for jobs first, so no call is lost to a thread that goes home. 4. Newest first: the stack leaves
//!    those at the bottom alone, which then retire. 5. A worker that spins looks, before it sleeps, whether it was called:
//!    an announcement only makes that sooner.

use crate::spin::{Spin, UNKNOWN_CPU, current_cpu};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Arc, Condvar, Mutex, lock};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Where one worker waits for a call.
#[derive(Debug, Default)]
pub struct Desk {
    state: Mutex<DeskState>,
    bell: Condvar,
    /// For a worker that spins: whoever called it has let go of what it needs.
    announced: AtomicBool,
}

#[derive(Debug, Default)]
struct DeskState {
    called: bool,
    asleep: bool,
}

impl Desk {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn clear(&self) {
        lock(&self.state).called = false;
        self.announced.store(false, Release);
    }

    /// True if the worker was asleep, and now wakes up.
    fn call(&self) -> bool {
        let mut state = lock(&self.state);
        state.called = true;
        if state.asleep {
            self.bell.notify_one();
        }
        state.asleep
    }

    /// Sleeps until called (true), or for as long as that.
    fn sleep(&self, longest: Option<Duration>) -> bool {
        let deadline = longest.map(|span| Instant::now() + span);
        let mut state = lock(&self.state);
        state.asleep = true;
        while !state.called {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.bell.wait_timeout(state, left).unwrap_or_else(|error| error.into_inner()).0,
                None => self.bell.wait(state).unwrap_or_else(|error| error.into_inner()),
            };
        }
        state.asleep = false;
        state.called
    }
}

/// Whom a job needs besides those who work.
#[derive(Debug)]
#[must_use]
pub enum Need {
    Nobody,
    /// Call `Summons::deliver`, under no lock.
    Wake(Summons),
    /// Start a thread that begins with `Pool::arrive`; or say `Pool::not_started`.
    Start,
}

/// A worker that was taken off the stack, and is to be told.
#[derive(Debug)]
pub struct Summons(Arc<Desk>);

impl Summons {
    /// Tells one that sleeps. One that spins would come at once, and collide with a caller that still holds what it
    /// needs: that one is told by an announcement, or finds out by itself a little later.
    #[must_use]
    pub fn deliver(self) -> Option<Announcement> {
        if self.0.call() { None } else { Some(Announcement(self.0)) }
    }
}

/// For a worker that spins.
#[derive(Debug)]
pub struct Announcement(Arc<Desk>);

impl Announcement {
    pub fn make(&self) {
        self.0.announced.store(true, Release);
    }
}

#[derive(Debug)]
struct State<J> {
    queue: VecDeque<J>,
    idle: Vec<Arc<Desk>>,
    /// Somebody was called or is being started, and has not looked yet.
    called: bool,
    workers: usize,
}

#[derive(Debug)]
pub struct Pool<J> {
    state: Mutex<State<J>>,
    spin: Spin,
    /// The core that the last job came from.
    caller_cpu: AtomicU32,
    /// The core of the worker that came to rest last.
    worker_cpu: AtomicU32,
}

impl<J> State<J> {
    fn call_for_the_rest(&mut self) -> Need {
        if self.queue.is_empty() || self.called {
            return Need::Nobody;
        }
        self.called = true;
        match self.idle.pop() {
            Some(desk) => Need::Wake(Summons(desk)),
            None => {
                self.workers += 1;
                Need::Start
            }
        }
    }
}

impl<J> Pool<J> {
    pub fn new(usable_cores: usize) -> Self {
        let state = State { queue: VecDeque::new(), idle: Vec::new(), called: false, workers: 0 };
        Self {
            state: Mutex::new(state),
            spin: Spin::new(usable_cores),
            caller_cpu: AtomicU32::new(UNKNOWN_CPU),
            worker_cpu: AtomicU32::new(UNKNOWN_CPU),
        }
    }

    pub fn submit(&self, job: J) -> Need {
        self.caller_cpu.store(current_cpu(), Relaxed);
        let mut state = lock(&self.state);
        state.queue.push_back(job);
        state.call_for_the_rest()
    }

    /// For a worker that looks for jobs next: this one is its.
    pub fn keep(&self, job: J) {
        lock(&self.state).queue.push_front(job);
    }

    /// A worker that was called or started is there. It has to `take` next.
    pub fn arrive(&self) {
        lock(&self.state).called = false;
    }

    /// A thread could not be started. Returns a job that nobody may ever take: the newest that `is_mine`.
    pub fn not_started(&self, is_mine: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = lock(&self.state);
        state.called = false;
        state.workers -= 1;
        let at = state.queue.iter().rposition(is_mine)?;
        state.queue.remove(at)
    }

    /// The next job, if there is one, and whom the others need.
    pub fn take(&self) -> Option<(J, Need)> {
        let mut state = lock(&self.state);
        let job = state.queue.pop_front()?;
        let need = state.call_for_the_rest();
        Some((job, need))
    }

    /// Puts a worker on the stack, unless there are jobs; from then on it may be called, and has to `doze`.
    pub fn sit_down(&self, desk: &Arc<Desk>) -> bool {
        let mut state = lock(&self.state);
        if !state.queue.is_empty() {
            return false;
        }
        desk.clear();
        state.idle.push(Arc::clone(desk));
        true
    }

    /// By 3: takes the worker off the stack for good; false if somebody has called it.
    pub fn retire(&self, desk: &Arc<Desk>) -> bool {
        let mut state = lock(&self.state);
        let Some(at) = state.idle.iter().position(|other| Arc::ptr_eq(other, desk)) else { return false };
        state.idle.remove(at);
        state.workers -= 1;
        true
    }

    /// For a worker that has sat down: waits for a call, for at most `longest`; false: it has retired. Detached.
    pub fn doze(&self, desk: &Arc<Desk>, longest: Option<Duration>) -> bool {
        self.worker_cpu.store(current_cpu(), Relaxed);
        self.spin.attempt(self.caller_cpu.load(Relaxed), true, || desk.announced.load(Acquire));
        if !desk.sleep(longest) {
            if self.retire(desk) {
                return false;
            }
            // Called in this very moment, and told soon.
            desk.sleep(None);
        }
        self.arrive();
        true
    }

    /// Tells how long a worker that was called has waited for the interpreter: see `Spin`.
    pub fn note_attach(&self, took: Duration) {
        self.spin.note_attach(took);
    }

    /// Where the worker runs that is called next, as far as is known.
    pub fn worker_cpu(&self) -> u32 {
        self.worker_cpu.load(Relaxed)
    }

    /// How many threads there are, and how many of them sleep.
    pub fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.workers, state.idle.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOT_LONG: Option<Duration> = Some(Duration::from_millis(1));

    #[test]
    fn one_worker_is_called_for_many_jobs_and_calls_the_next() {
        let pool = Pool::new(1);
        assert!(matches!(pool.submit(1), Need::Start));
        assert!(matches!(pool.submit(2), Need::Nobody));
        pool.arrive();
        assert!(matches!(pool.take(), Some((1, Need::Start))));
        pool.arrive();
        assert!(matches!(pool.take(), Some((2, Need::Nobody))));
        assert!(pool.take().is_none());
        assert_eq!(pool.counts(), (2, 0));
    }

    #[test]
    fn the_newest_is_called_first() {
        let pool = Pool::new(1);
        let desks = [Desk::new(), Desk::new()];
        assert!(desks.iter().all(|desk| pool.sit_down(desk)));
        let Need::Wake(summons) = pool.submit(1) else { unreachable!("two are idle") };
        assert!(Arc::ptr_eq(&summons.0, &desks[1]));
        assert!(matches!(pool.submit(2), Need::Nobody));
        pool.arrive();
        let Some((1, Need::Wake(summons))) = pool.take() else { unreachable!("one is idle") };
        assert!(Arc::ptr_eq(&summons.0, &desks[0]));
    }

    #[test]
    fn a_worker_that_nobody_calls_retires() {
        let pool = Pool::new(1);
        assert!(matches!(pool.submit(1), Need::Start));
        pool.arrive();
        assert!(pool.take().is_some());
        let desk = Desk::new();
        assert!(pool.sit_down(&desk));
        assert!(!pool.doze(&desk, NOT_LONG));
        assert_eq!(pool.counts(), (0, 0));
        assert!(matches!(pool.submit(2), Need::Start));
    }

    #[test]
    fn a_worker_does_not_sit_down_before_jobs() {
        let pool = Pool::new(1);
        assert!(matches!(pool.submit(1), Need::Start));
        assert!(!pool.sit_down(&Desk::new()));
    }

    #[test]
    fn one_that_was_called_does_not_retire() {
        let pool = Pool::new(1);
        let desk = Desk::new();
        assert!(pool.sit_down(&desk));
        let Need::Wake(summons) = pool.submit(1) else { unreachable!("one is idle") };
        assert!(!pool.retire(&desk));
        // Nobody slept there; it finds out by itself.
        assert!(summons.deliver().is_some());
        assert!(desk.sleep(None));
    }

    #[test]
    fn a_job_that_found_no_thread_is_handed_back() {
        let pool = Pool::new(1);
        assert!(matches!(pool.submit(1), Need::Start));
        assert_eq!(pool.not_started(|job| *job == 1), Some(1));
        assert_eq!(pool.counts(), (0, 0));
        assert!(matches!(pool.submit(2), Need::Start));
    }

    #[test]
    fn what_a_worker_keeps_is_its_next_job() {
        let pool = Pool::new(1);
        assert!(matches!(pool.submit(1), Need::Start));
        pool.keep(0);
        assert!(matches!(pool.take(), Some((0, Need::Nobody))));
    }
}
