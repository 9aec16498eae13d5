//! A pool of worker threads: which of them takes a job, which one sleeps, which one retires.
//!
//! Most pools wake a thread for each job. Under the interpreter lock that is a waste: a hundred short jobs are done
//! fastest by one thread that never sleeps in between. But any of them may block, and the others must not wait for
//! it. So jobs lie in one queue, and one worker at a time is called for them. A worker that takes a job and sees that
//! there are more calls the next worker before it runs its own job.
//!
//! Words: a *desk* is where one worker waits; the *stack* is that of the idle workers' desks; to *retire* is to end,
//! since there was no job for a while.
//!
//! Invariants:
//! 1. No job is forgotten. While there are jobs, a worker was called, or is being started, and has not looked into the
//!    queue yet. Where no thread could be started, a worker that is busy looks again when it is done.
//! 2. Queue, stack and `called` change under one lock.
//! 3. A worker on the stack is asleep or about to be. Whoever calls a worker takes it off the stack, and only one that
//!    could take itself off retires. So one that was called always looks for jobs, and no call is lost.
//! 4. The newest on the stack is called first. Those at the bottom are left alone, and retire.
//! 5. A worker that spins looks, before it sleeps, whether it was called. An announcement only lets it come sooner.

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
    /// For a worker that spins: whoever called it has let go of the interpreter, which the worker needs.
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

    /// Calls the worker. True if it was asleep, and wakes up by this; false if it will see the call before it sleeps.
    fn call(&self) -> bool {
        let mut state = lock(&self.state);
        state.called = true;
        let was_asleep = state.asleep;
        // Not under the lock: on one core the worker may run at once, and would only wait for it.
        drop(state);
        if was_asleep {
            self.bell.notify_one();
        }
        was_asleep
    }

    /// Sleeps until the worker is called (true), or `longest` is over (false).
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

/// Which worker is needed besides those that work already.
#[derive(Debug)]
#[must_use]
pub enum Need {
    Nobody,
    /// Call `Summons::deliver`, under no lock.
    Wake(Summons),
    /// Start a thread that begins with `Pool::arrive`. If that fails, call `Pool::not_started`.
    Start,
}

/// A worker that was taken off the stack, and has to be told so: by `deliver`.
#[derive(Debug)]
pub struct Summons(Arc<Desk>);

impl Summons {
    /// Wakes a worker that sleeps. One that spins would come at once, and collide with a caller that still holds the
    /// interpreter. For such a worker an announcement is returned, to be made when the caller has let go; without it,
    /// the worker finds out by itself a little later (by 5).
    #[must_use]
    pub fn deliver(self) -> Option<Announcement> {
        if self.0.call() { None } else { Some(Announcement(self.0)) }
    }
}

/// A worker that was called, and is better told so when its caller has let go of the interpreter.
#[derive(Debug)]
#[must_use]
pub enum OnItsWay {
    Spins(Announcement),
    /// It sleeps, and wakes up on the caller's core: with the interpreter taken it would push the caller aside in vain.
    Sleeps(Summons),
}

impl OnItsWay {
    pub fn tell(self) {
        let announcement = match self {
            Self::Spins(announcement) => Some(announcement),
            Self::Sleeps(summons) => summons.deliver(),
        };
        if let Some(announcement) = announcement {
            announcement.make();
        }
    }
}

/// Tells a worker that spins that it was called.
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
    /// A worker was called or is being started, and has not looked into the queue yet.
    called: bool,
    workers: usize,
    most_workers: usize,
    /// Workers end when there are no jobs.
    closed: bool,
}

#[derive(Debug)]
pub struct Pool<J> {
    state: Mutex<State<J>>,
    spin: Spin,
    /// The processor core that the last job came from.
    caller_cpu: AtomicU32,
    /// The core of the worker that came to rest last.
    worker_cpu: AtomicU32,
}

impl<J> State<J> {
    fn call_for_the_rest(&mut self) -> Need {
        if self.queue.is_empty() || self.called || (self.idle.is_empty() && self.workers == self.most_workers) {
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
        Self::of(usable_cores, usize::MAX)
    }

    /// One whose jobs all run in one thread, one after the other.
    pub fn of_one(usable_cores: usize) -> Self {
        Self::of(usable_cores, 1)
    }

    fn of(usable_cores: usize, most_workers: usize) -> Self {
        let (queue, idle) = (VecDeque::new(), Vec::new());
        let state = State { queue, idle, called: false, workers: 0, most_workers, closed: false };
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

    /// Has the workers end once there are no jobs. Those that are idle are to be told: by `Summons::deliver`.
    pub fn close(&self) -> Vec<Summons> {
        let mut state = lock(&self.state);
        state.closed = true;
        state.idle.drain(..).map(Summons).collect()
    }

    /// Whether it was made by `of_one`.
    pub fn is_of_one(&self) -> bool {
        lock(&self.state).most_workers == 1
    }

    /// For a worker of a closed pool that has found no job: false if there is one after all.
    pub fn end(&self) -> bool {
        let mut state = lock(&self.state);
        let ends = state.closed && state.queue.is_empty();
        state.workers -= usize::from(ends);
        ends
    }

    /// For a worker that is about to `take`: makes this its next job.
    pub fn keep(&self, job: J) {
        lock(&self.state).queue.push_front(job);
    }

    /// A worker that was called or started says that it is there. It has to `take` next.
    pub fn arrive(&self) {
        lock(&self.state).called = false;
    }

    /// A thread could not be started. Takes the newest job that `is_mine` out of the queue, as maybe nobody would
    /// ever run it, and returns it.
    pub fn not_started(&self, is_mine: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = lock(&self.state);
        state.called = false;
        state.workers -= 1;
        let at = state.queue.iter().rposition(is_mine)?;
        state.queue.remove(at)
    }

    /// The next job, if there is one, and which worker the jobs after it need.
    pub fn take(&self) -> Option<(J, Need)> {
        let mut state = lock(&self.state);
        let job = state.queue.pop_front()?;
        let need = state.call_for_the_rest();
        Some((job, need))
    }

    /// Puts a worker on the stack; from then on it may be called, and has to `doze`. False if there are jobs to take,
    /// or the pool is closed.
    pub fn sit_down(&self, desk: &Arc<Desk>) -> bool {
        let mut state = lock(&self.state);
        if !state.queue.is_empty() || state.closed {
            return false;
        }
        desk.clear();
        state.idle.push(Arc::clone(desk));
        true
    }

    /// Takes the worker off the stack for good. False if it was called meanwhile: by 3 it has to look for jobs.
    pub fn retire(&self, desk: &Arc<Desk>) -> bool {
        let mut state = lock(&self.state);
        let Some(at) = state.idle.iter().position(|other| Arc::ptr_eq(other, desk)) else { return false };
        state.idle.remove(at);
        state.workers -= 1;
        true
    }

    /// For a worker that has sat down: waits for a call, for at most `longest`. False if it has retired. To be called
    /// without the interpreter lock.
    pub fn doze(&self, desk: &Arc<Desk>, longest: Option<Duration>) -> bool {
        self.worker_cpu.store(current_cpu(), Relaxed);
        self.spin.attempt(self.caller_cpu.load(Relaxed), true, || desk.announced.load(Acquire));
        if !desk.sleep(longest) {
            if self.retire(desk) {
                return false;
            }
            // Somebody took it off the stack when its time was just over: `deliver` follows soon.
            desk.sleep(None);
        }
        self.arrive();
        true
    }

    /// Notes how long a worker that was called has waited for the interpreter: see `Spin::note_attach`.
    pub fn note_attach(&self, took: Duration) {
        self.spin.note_attach(took);
    }

    /// The core on which the worker that is called next ran last, as far as is known.
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
    fn one_that_sleeps_can_be_told_later() {
        let pool = Pool::new(1);
        let desk = Desk::new();
        assert!(pool.sit_down(&desk));
        let Need::Wake(summons) = pool.submit(1) else { unreachable!("one is idle") };
        std::thread::scope(|scope| {
            scope.spawn(|| OnItsWay::Sleeps(summons).tell());
            assert!(pool.doze(&desk, None));
        });
        assert!(matches!(pool.take(), Some((1, Need::Nobody))));
    }

    #[test]
    fn a_pool_of_one_starts_one_thread_which_ends_when_all_is_done() {
        let pool = Pool::of_one(1);
        assert!(matches!(pool.submit(1), Need::Start));
        pool.arrive();
        assert!(matches!(pool.take(), Some((1, Need::Nobody))));
        assert!(matches!(pool.submit(2), Need::Nobody));
        assert!(pool.close().is_empty());
        assert!(!pool.end() && !pool.sit_down(&Desk::new()));
        assert!(matches!(pool.take(), Some((2, Need::Nobody))));
        assert!(!pool.sit_down(&Desk::new()));
        assert!(pool.end());
        assert_eq!(pool.counts(), (0, 0));
    }

    #[test]
    fn an_idle_worker_of_a_pool_that_is_closed_is_called() {
        let pool = Pool::<u32>::of_one(1);
        let desk = Desk::new();
        assert!(pool.sit_down(&desk));
        assert_eq!(pool.close().into_iter().map(Summons::deliver).count(), 1);
        assert!(pool.doze(&desk, None));
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
