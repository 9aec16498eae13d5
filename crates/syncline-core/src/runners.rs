//! Who has which runner, and who starts it.
//!
//! Starting a runner runs Python code, so no lock may be held meanwhile. Of sixteen threads that make the first call
//! at once, one starts the runner and the others wait for it. The runner's own thread says that it is ready. So a
//! caller that stops waiting, after a timeout say, breaks nothing off: the next caller finds the runner.
//!
//! Invariants:
//! 1. A key has at most one runner, or one start that counts: the one that stands in `entries`.
//! 2. When a start is over (by `ready`, `fail`, `withdraw`, `close`, by being dropped, or by 3), its latch is opened.
//!    The callers that wait at it look again.
//! 3. A thread can be interrupted while it starts a runner, by a signal handler or a finalizer that makes a call. The
//!    inner call must not wait for the start that it interrupts: it makes a new one, which takes the other's place.
//! 4. No runner is dropped under the lock.

use crate::latch::Latch;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Arc, Mutex, lock};
use crate::waits::Node;
use std::collections::BTreeMap;

#[derive(Debug)]
enum Entry<R, E> {
    Starting(Arc<Starting<E>>),
    Alive(R),
}

#[derive(Debug)]
struct State<K, R, E> {
    entries: BTreeMap<K, Entry<R, E>>,
    closed: bool,
}

#[derive(Debug)]
pub struct Runners<K, R, E> {
    state: Mutex<State<K, R, E>>,
}

#[derive(Debug, Eq, PartialEq)]
enum Phase<E> {
    /// The runner's thread does not run yet.
    New,
    /// It runs, and will say what became of the start.
    Running,
    Failed(E),
    Over,
}

#[derive(Debug)]
struct Progress<E> {
    phase: Phase<E>,
    /// Whoever began the start has stopped waiting for it.
    is_abandoned: bool,
}

/// A start under way.
#[derive(Debug)]
pub struct Starting<E> {
    /// Opens when the start is over, however it ended.
    pub over: Latch,
    /// Stands for the runner's thread, where circles of waits are looked for.
    pub node: Arc<Node>,
    /// The thread that began the start.
    by: u64,
    /// The runner's own thread, once there is one.
    thread: AtomicU64,
    progress: Mutex<Progress<E>>,
}

impl<E> Starting<E> {
    /// For the runner's thread, first of all. False if the start was given up: the thread has to end.
    pub fn begin(&self) -> bool {
        let mut progress = lock(&self.progress);
        let is_new = matches!(progress.phase, Phase::New);
        if is_new {
            progress.phase = Phase::Running;
        }
        is_new
    }

    /// For whoever began the start: why it failed, if it did.
    pub fn take_error(&self) -> Option<E> {
        let mut progress = lock(&self.progress);
        match std::mem::replace(&mut progress.phase, Phase::Over) {
            Phase::Failed(error) => Some(error),
            other => {
                progress.phase = other;
                None
            }
        }
    }

    /// Whoever began the start stops waiting. Returns why it failed, if that was said before.
    pub fn abandon(&self) -> Option<E> {
        lock(&self.progress).is_abandoned = true;
        self.take_error()
    }

    /// Keeps the runner's thread from beginning. False if it runs already.
    fn give_up(&self) -> bool {
        let mut progress = lock(&self.progress);
        let is_new = matches!(progress.phase, Phase::New);
        if is_new {
            progress.phase = Phase::Over;
        }
        is_new
    }

    /// For the runner's thread, before any Python code runs in it.
    pub fn is_of_thread(&self, thread: u64) {
        self.thread.store(thread, Relaxed);
    }

    /// By 3: whether a call of `thread` has interrupted it in the middle of this start. Once the runner's thread runs,
    /// it is safe to wait for the start: it goes on by itself. Python code that runs in that thread before its main
    /// function can be a finalizer that makes a call.
    fn is_interrupted_by(&self, thread: u64) -> bool {
        (self.by == thread || self.thread.load(Relaxed) == thread) && matches!(lock(&self.progress).phase, Phase::New)
    }
}

/// What a caller that needs the runner of a key has to do.
#[derive(Debug)]
pub enum Find<K: Ord + Clone, R, E> {
    /// Here it is.
    Alive(R),
    /// Another thread starts it: wait until that is over, then look again.
    Wait(Arc<Starting<E>>),
    /// The caller has to start it.
    Start(Start<K, R, E>),
    /// No more runners are given out.
    Closed,
}

/// The duty to start a runner. Dropped without `ready`, it leaves the key free.
#[derive(Debug)]
pub struct Start<K: Ord + Clone, R, E> {
    runners: Arc<Runners<K, R, E>>,
    key: K,
    starting: Arc<Starting<E>>,
}

impl<K, R, E> Default for Runners<K, R, E> {
    fn default() -> Self {
        Self { state: Mutex::new(State { entries: BTreeMap::new(), closed: false }) }
    }
}

impl<K: Ord + Clone, R: Clone, E> Runners<K, R, E> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The runner of `key`, for the thread `me`. A runner for which `is_alive` says no is replaced by a new start.
    pub fn find(self: &Arc<Self>, key: &K, me: u64, is_alive: impl Fn(&R) -> bool) -> Find<K, R, E> {
        let mut state = lock(&self.state);
        if state.closed {
            return Find::Closed;
        }
        match state.entries.get(key) {
            Some(Entry::Alive(runner)) if is_alive(runner) => return Find::Alive(runner.clone()),
            Some(Entry::Starting(starting)) if !starting.is_interrupted_by(me) => {
                return Find::Wait(Arc::clone(starting));
            }
            _ => {}
        }
        let starting = Arc::new(Starting {
            over: Latch::new(),
            node: Node::new(),
            by: me,
            thread: AtomicU64::new(0),
            progress: Mutex::new(Progress { phase: Phase::New, is_abandoned: false }),
        });
        let replaced = state.entries.insert(key.clone(), Entry::Starting(Arc::clone(&starting)));
        drop(state);
        // By 2 and 4: a start that was replaced is over, and nothing is dropped before the lock is released.
        if let Some(Entry::Starting(interrupted)) = &replaced {
            lock(&interrupted.progress).phase = Phase::Over;
            interrupted.over.open();
        }
        drop(replaced);
        Find::Start(Start { runners: Arc::clone(self), key: key.clone(), starting })
    }

    /// Every runner that is alive, in the order of the keys.
    pub fn alive(&self) -> Vec<R> {
        let state = lock(&self.state);
        let alive = state.entries.values().filter_map(|entry| match entry {
            Entry::Alive(runner) => Some(runner.clone()),
            Entry::Starting(_) => None,
        });
        alive.collect()
    }

    /// Whether one of those is what is asked for. `is_it` must not come back here.
    pub fn any(&self, is_it: impl Fn(&R) -> bool) -> bool {
        let state = lock(&self.state);
        state.entries.values().any(|entry| matches!(entry, Entry::Alive(runner) if is_it(runner)))
    }

    /// Forgets the runner of `key`, if `is_it` says that it is the one that is meant.
    pub fn forget(&self, key: &K, is_it: impl Fn(&R) -> bool) {
        let mut state = lock(&self.state);
        let ours = matches!(state.entries.get(key), Some(Entry::Alive(runner)) if is_it(runner));
        let forgotten = if ours { state.entries.remove(key) } else { None };
        drop(state);
        drop(forgotten);
    }

    /// Gives up a start whose thread could not be started, or does not run yet. False if the thread runs.
    pub fn withdraw(&self, starting: &Arc<Starting<E>>) -> bool {
        if !starting.give_up() {
            return false;
        }
        let mut state = lock(&self.state);
        state.entries.retain(|_, entry| !matches!(entry, Entry::Starting(known) if Arc::ptr_eq(known, starting)));
        drop(state);
        starting.over.open();
        true
    }

    /// Gives no more runners out, and returns those that are alive. A start under way is refused: by `begin` if its
    /// thread does not run yet, else by `ready`, and then the runner has to end itself.
    pub fn close(&self) -> Vec<R> {
        let mut state = lock(&self.state);
        state.closed = true;
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        let mut alive = Vec::new();
        for entry in entries.into_values() {
            match entry {
                Entry::Alive(runner) => alive.push(runner),
                Entry::Starting(starting) => {
                    starting.give_up();
                    starting.over.open();
                }
            }
        }
        alive
    }
}

impl<K: Ord + Clone, R, E> Start<K, R, E> {
    pub fn starting(&self) -> &Arc<Starting<E>> {
        &self.starting
    }

    pub fn runners(&self) -> &Arc<Runners<K, R, E>> {
        &self.runners
    }

    /// Gives the runner out. Hands it back if it is not wanted any more and has to end: the bridge was closed
    /// meanwhile, or another start took the place of this one.
    pub fn ready(self, runner: R) -> Result<(), R> {
        let mut state = lock(&self.runners.state);
        if state.closed || !self.counts(&state) {
            return Err(runner);
        }
        state.entries.insert(self.key.clone(), Entry::Alive(runner));
        Ok(())
    }

    /// Tells whoever began the start why there is no runner. Hands the error back if nobody waits for it.
    pub fn fail(self, error: E) -> Result<(), E> {
        let mut progress = lock(&self.starting.progress);
        if progress.is_abandoned {
            return Err(error);
        }
        progress.phase = Phase::Failed(error);
        Ok(())
    }

    fn counts(&self, state: &State<K, R, E>) -> bool {
        matches!(state.entries.get(&self.key), Some(Entry::Starting(known)) if Arc::ptr_eq(known, &self.starting))
    }
}

impl<K: Ord + Clone, R, E> Drop for Start<K, R, E> {
    fn drop(&mut self) {
        let mut state = lock(&self.runners.state);
        let removed = if self.counts(&state) { state.entries.remove(&self.key) } else { None };
        drop(state);
        drop(removed);
        self.starting.over.open();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    type Numbers = Runners<u8, u32, &'static str>;

    fn start(runners: &Arc<Numbers>, key: u8) -> Start<u8, u32, &'static str> {
        match runners.find(&key, 1, |_| true) {
            Find::Start(start) => start,
            other => panic!("expected to start, got {other:?}"),
        }
    }

    #[test]
    fn one_thread_starts_and_the_others_wait() {
        let runners = Numbers::new();
        let duty = start(&runners, 0);
        let Find::Wait(starting) = runners.find(&0, 2, |_| true) else { panic!("expected to wait") };
        assert!(!starting.over.is_open());
        assert_eq!(duty.ready(7), Ok(()));
        assert!(starting.over.is_open());
        assert!(matches!(runners.find(&0, 2, |_| true), Find::Alive(7)));
    }

    #[test]
    fn a_start_that_was_dropped_leaves_the_key_free() {
        let runners = Numbers::new();
        drop(start(&runners, 0));
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
    }

    #[test]
    fn why_a_start_failed_is_told_to_whoever_began_it() {
        let runners = Numbers::new();
        let duty = start(&runners, 0);
        let starting = Arc::clone(duty.starting());
        assert!(starting.begin());
        assert_eq!(duty.fail("no descriptors left"), Ok(()));
        assert!(starting.over.is_open());
        assert_eq!(starting.take_error(), Some("no descriptors left"));
        assert_eq!(starting.take_error(), None);
    }

    #[test]
    fn why_it_failed_comes_back_if_nobody_waits() {
        let runners = Numbers::new();
        let duty = start(&runners, 0);
        assert_eq!(duty.starting().abandon(), None);
        assert_eq!(duty.fail("late"), Err("late"));
    }

    #[test]
    fn a_thread_that_interrupts_its_own_start_makes_another() {
        let runners = Numbers::new();
        let interrupted = start(&runners, 0);
        let Find::Start(inner) = runners.find(&0, 1, |_| true) else { panic!("expected to start") };
        assert!(interrupted.starting().over.is_open());
        assert_eq!(inner.ready(2), Ok(()));
        assert_eq!(interrupted.ready(1), Err(1));
        assert!(matches!(runners.find(&0, 1, |_| true), Find::Alive(2)));
    }

    #[test]
    fn a_thread_that_interrupts_its_own_start_waits_if_the_runners_thread_runs() {
        let runners = Numbers::new();
        let duty = start(&runners, 0);
        assert!(duty.starting().begin());
        assert!(matches!(runners.find(&0, 1, |_| true), Find::Wait(_)));
    }

    #[test]
    fn a_runners_thread_that_needs_the_runner_before_it_has_begun_starts_another_and_ends() {
        let runners = Numbers::new();
        let interrupted = start(&runners, 0);
        interrupted.starting().is_of_thread(5);
        let Find::Start(inner) = runners.find(&0, 5, |_| true) else { panic!("expected to start") };
        assert!(!interrupted.starting().begin());
        assert!(inner.starting().begin());
        assert_eq!(inner.ready(2), Ok(()));
    }

    #[test]
    fn a_start_is_withdrawn_before_its_thread_runs_and_not_after() {
        let runners = Numbers::new();
        let duty = start(&runners, 0);
        assert!(runners.withdraw(duty.starting()));
        assert!(duty.starting().over.is_open());
        assert!(!duty.starting().begin());
        let duty = start(&runners, 0);
        assert!(duty.starting().begin());
        assert!(!runners.withdraw(duty.starting()));
        assert_eq!(duty.ready(1), Ok(()));
    }

    #[test]
    fn a_dead_runner_is_started_anew() {
        let runners = Numbers::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        assert!(matches!(runners.find(&0, 1, |_| false), Find::Start(_)));
    }

    #[test]
    fn closing_returns_the_living_and_refuses_one_that_just_started() {
        let runners = Numbers::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        let (late, too_late) = (start(&runners, 1), start(&runners, 2));
        assert!(late.starting().begin());
        assert_eq!(runners.close(), [1]);
        assert_eq!(late.ready(2), Err(2));
        assert!(!too_late.starting().begin());
        assert!(matches!(runners.find(&0, 1, |_| true), Find::Closed));
    }

    #[test]
    fn forgetting_leaves_another_runner_alone() {
        let runners = Numbers::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        runners.forget(&0, |runner| *runner == 2);
        assert_eq!(runners.alive(), [1]);
        runners.forget(&0, |runner| *runner == 1);
        assert!(runners.alive().is_empty());
    }
}
