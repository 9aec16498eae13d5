//! Who has which runner, and who starts it.
//!
//! Starting a runner runs Python code, so no lock may be held meanwhile; and of sixteen threads that make the first
//! call at once, one starts the runner and the others wait for it.
//!
//! Invariants:
//! 1. For each key there is at most one runner that starts or is alive. 2. Whoever got [`Find::Start`] ends it, with
//!    `ready` or by dropping the [`Start`]; either opens the latch that the others wait at, and they look again.

use crate::latch::Latch;
use crate::sync::{Arc, Mutex, lock};
use std::collections::BTreeMap;

#[derive(Debug)]
enum Entry<R> {
    Starting(Arc<Latch>),
    Alive(R),
}

#[derive(Debug)]
struct State<K, R> {
    entries: BTreeMap<K, Entry<R>>,
    closed: bool,
}

#[derive(Debug)]
pub struct Runners<K, R> {
    state: Mutex<State<K, R>>,
}

/// What to do for a key.
#[derive(Debug)]
pub enum Find<'a, K: Ord + Clone, R: Clone> {
    /// Here it is.
    Alive(R),
    /// Another thread starts it: wait until the latch opens, then look again.
    Wait(Arc<Latch>),
    /// It is yours to start.
    Start(Start<'a, K, R>),
    /// No more runners are given out.
    Closed,
}

/// The duty to start a runner. Dropped without `ready`, it leaves the key free.
#[derive(Debug)]
pub struct Start<'a, K: Ord + Clone, R: Clone> {
    runners: &'a Runners<K, R>,
    key: K,
    latch: Arc<Latch>,
}

impl<K: Ord + Clone, R: Clone> Default for Runners<K, R> {
    fn default() -> Self {
        Self { state: Mutex::new(State { entries: BTreeMap::new(), closed: false }) }
    }
}

impl<K: Ord + Clone, R: Clone> Runners<K, R> {
    pub fn new() -> Self {
        Self::default()
    }

    /// The runner of `key`; one that `is_alive` denies is forgotten and started anew.
    pub fn find(&self, key: &K, is_alive: impl Fn(&R) -> bool) -> Find<'_, K, R> {
        let mut state = lock(&self.state);
        if state.closed {
            return Find::Closed;
        }
        match state.entries.get(key) {
            Some(Entry::Alive(runner)) if is_alive(runner) => return Find::Alive(runner.clone()),
            Some(Entry::Starting(latch)) => return Find::Wait(Arc::clone(latch)),
            Some(Entry::Alive(_)) | None => {}
        }
        let latch = Arc::new(Latch::new());
        state.entries.insert(key.clone(), Entry::Starting(Arc::clone(&latch)));
        Find::Start(Start { runners: self, key: key.clone(), latch })
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

    /// Forgets the runner of `key` if it is the one meant.
    pub fn forget(&self, key: &K, is_it: impl Fn(&R) -> bool) {
        let mut state = lock(&self.state);
        if matches!(state.entries.get(key), Some(Entry::Alive(runner)) if is_it(runner)) {
            state.entries.remove(key);
        }
    }

    /// Gives no more runners out, and returns those that are alive. One that is just being started is refused by
    /// `ready`, and its starter has to end it.
    pub fn close(&self) -> Vec<R> {
        let mut state = lock(&self.state);
        state.closed = true;
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        let mut alive = Vec::new();
        for entry in entries.into_values() {
            match entry {
                Entry::Alive(runner) => alive.push(runner),
                Entry::Starting(latch) => latch.open(),
            }
        }
        alive
    }
}

impl<K: Ord + Clone, R: Clone> Start<'_, K, R> {
    /// Gives the runner out; hands it back if the bridge was closed meanwhile.
    pub fn ready(self, runner: R) -> Result<(), R> {
        let mut state = lock(&self.runners.state);
        if state.closed {
            return Err(runner);
        }
        state.entries.insert(self.key.clone(), Entry::Alive(runner));
        drop(state);
        Ok(())
    }
}

impl<K: Ord + Clone, R: Clone> Drop for Start<'_, K, R> {
    fn drop(&mut self) {
        let mut state = lock(&self.runners.state);
        let ours = |entry: &Entry<R>| matches!(entry, Entry::Starting(latch) if Arc::ptr_eq(latch, &self.latch));
        if state.entries.get(&self.key).is_some_and(ours) {
            state.entries.remove(&self.key);
        }
        drop(state);
        self.latch.open();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn start<'a>(runners: &'a Runners<u8, u32>, key: u8) -> Start<'a, u8, u32> {
        match runners.find(&key, |_| true) {
            Find::Start(start) => start,
            other => panic!("expected to start, got {other:?}"),
        }
    }

    #[test]
    fn one_thread_starts_and_the_others_wait() {
        let runners = Runners::new();
        let duty = start(&runners, 0);
        let Find::Wait(latch) = runners.find(&0, |_| true) else { panic!("expected to wait") };
        assert!(!latch.is_open());
        assert_eq!(duty.ready(7), Ok(()));
        assert!(latch.is_open());
        assert!(matches!(runners.find(&0, |_| true), Find::Alive(7)));
    }

    #[test]
    fn a_start_that_failed_leaves_the_key_free() {
        let runners = Runners::new();
        drop(start(&runners, 0));
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
    }

    #[test]
    fn a_dead_runner_is_started_anew() {
        let runners = Runners::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        assert!(matches!(runners.find(&0, |_| false), Find::Start(_)));
    }

    #[test]
    fn closing_returns_the_living_and_refuses_one_that_just_started() {
        let runners = Runners::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        let late = start(&runners, 1);
        assert_eq!(runners.close(), [1]);
        assert_eq!(late.ready(2), Err(2));
        assert!(matches!(runners.find(&0, |_| true), Find::Closed));
    }

    #[test]
    fn forgetting_leaves_another_runner_alone() {
        let runners = Runners::new();
        assert_eq!(start(&runners, 0).ready(1), Ok(()));
        runners.forget(&0, |runner| *runner == 2);
        assert_eq!(runners.alive(), [1]);
        runners.forget(&0, |runner| *runner == 1);
        assert!(runners.alive().is_empty());
    }
}
