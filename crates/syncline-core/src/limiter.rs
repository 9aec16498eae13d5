//! Tokens: how many may do something at once, and who is next.
//!
//! A semaphore, but one that can be read and changed while it is in use, and that knows its borrowers. It never waits
//! itself. Whoever finds no token leaves a waiter in the queue. Whoever gives a token back is handed the waiters that
//! it goes to, and tells them in its own way.
//!
//! Invariants:
//! 1. First come, first served: a token goes past nobody in the queue, but for `exceed`, which gives out one more.
//! 2. A waiter that is returned holds its token.
//! 3. Nothing that was stored is dropped under the lock: it is handed back.
//! 4. Leaving the queue takes a time that hardly grows with its length: many may give up at once.

use crate::sync::{Mutex, lock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

struct State<K, B, W> {
    /// `None`: no limit.
    total: Option<usize>,
    held: HashMap<K, B>,
    /// Those who wait, by the number of their place: the lowest is served first.
    queue: BTreeMap<u64, (K, B, W)>,
    /// For 4: which places in the queue each key has.
    places: BTreeSet<(K, u64)>,
    next_place: u64,
    /// Grows with each token that is taken or given back: if it stands still, nothing moves.
    moves: u64,
}

pub struct Limiter<K, B, W> {
    state: Mutex<State<K, B, W>>,
}

/// How a limiter stood at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    pub total: Option<usize>,
    pub borrowed: usize,
    pub waiting: usize,
    pub moves: u64,
}

/// There was no token; what was given in is handed back.
#[derive(Debug, Eq, PartialEq)]
pub enum Refused<B> {
    HasOne(B),
    NoneLeft(B),
}

impl<K: Ord + Hash + Clone, B, W> State<K, B, W> {
    fn has_room(&self) -> bool {
        self.total.is_none_or(|total| self.held.len() < total)
    }

    fn queue_up(&mut self, key: K, borrower: B, waiter: W) {
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert((key.clone(), place));
        self.queue.insert(place, (key, borrower, waiter));
    }

    /// The first place that the key has in the queue.
    fn place_of(&self, key: &K) -> Option<u64> {
        let (known, place) = self.places.range((key.clone(), 0)..).next()?;
        (known == key).then_some(*place)
    }

    fn leave(&mut self, place: u64) -> Option<(K, B, W)> {
        let (key, borrower, waiter) = self.queue.remove(&place)?;
        self.places.remove(&(key.clone(), place));
        Some((key, borrower, waiter))
    }

    fn next(&mut self) -> Option<W> {
        let place = *self.queue.keys().next()?;
        self.give_token(place)
    }

    fn give_token(&mut self, place: u64) -> Option<W> {
        let (key, borrower, waiter) = self.leave(place)?;
        self.held.insert(key, borrower);
        self.moves += 1;
        Some(waiter)
    }

    fn serve(&mut self) -> Vec<W> {
        let mut served = Vec::new();
        while self.has_room()
            && let Some(waiter) = self.next()
        {
            served.push(waiter);
        }
        served
    }
}

impl<K: Ord + Hash + Clone, B, W> Limiter<K, B, W> {
    pub fn new(total: Option<usize>) -> Self {
        let (held, queue, places) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { state: Mutex::new(State { total, held, queue, places, next_place: 0, moves: 0 }) }
    }

    pub fn acquire_nowait(&self, key: K, borrower: B) -> Result<(), Refused<B>> {
        let mut state = lock(&self.state);
        if state.held.contains_key(&key) {
            return Err(Refused::HasOne(borrower));
        }
        if !state.queue.is_empty() || !state.has_room() {
            return Err(Refused::NoneLeft(borrower));
        }
        state.held.insert(key, borrower);
        state.moves += 1;
        Ok(())
    }

    /// As `acquire_nowait`, but queues if there is no token left. `Ok(true)`: it got a token; `Ok(false)`: it queues.
    pub fn acquire(&self, key: K, borrower: B, waiter: impl FnOnce() -> W) -> Result<bool, Refused<B>> {
        match self.acquire_nowait(key.clone(), borrower) {
            Ok(()) => Ok(true),
            Err(Refused::NoneLeft(borrower)) => {
                let waiter = waiter();
                let mut state = lock(&self.state);
                // While `waiter()` ran, without the lock, a token may have come back. By 1 it is ours if nobody waits.
                if state.queue.is_empty() && state.has_room() {
                    state.held.insert(key, borrower);
                    state.moves += 1;
                    drop(state);
                    drop(waiter);
                    return Ok(true);
                }
                state.queue_up(key, borrower, waiter);
                Ok(false)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Gives a token back. Returns its borrower and the waiters that got one by that; `None` if the key held none.
    pub fn release(&self, key: &K) -> Option<(B, Vec<W>)> {
        let mut state = lock(&self.state);
        let borrower = state.held.remove(key)?;
        state.moves += 1;
        Some((borrower, state.serve()))
    }

    /// Leaves the queue, at the first of the key's places; `None` if it has none (any more).
    pub fn withdraw(&self, key: &K) -> Option<(B, W)> {
        let mut state = lock(&self.state);
        let place = state.place_of(key)?;
        state.leave(place).map(|(_, borrower, waiter)| (borrower, waiter))
    }

    /// Changes the limit. Returns the waiters that got a token by that.
    pub fn set_total(&self, total: Option<usize>) -> Vec<W> {
        let mut state = lock(&self.state);
        state.total = total;
        state.serve()
    }

    /// Gives the first waiter that `fits` a token over and above the limit.
    pub fn exceed(&self, fits: impl Fn(&W) -> bool) -> Option<W> {
        let mut state = lock(&self.state);
        let place = state.queue.iter().find_map(|(place, (_, _, waiter))| fits(waiter).then_some(*place))?;
        state.give_token(place)
    }

    pub fn counts(&self) -> Counts {
        let state = lock(&self.state);
        Counts { total: state.total, borrowed: state.held.len(), waiting: state.queue.len(), moves: state.moves }
    }

    /// Calls `look` with each borrower, under the lock, and returns what it returned.
    pub fn borrowers<T>(&self, look: impl Fn(&B) -> T) -> Vec<T> {
        lock(&self.state).held.values().map(look).collect()
    }

    /// The same for those in the queue, in their order.
    pub fn queued<T>(&self, look: impl Fn(&B) -> T) -> Vec<T> {
        lock(&self.state).queue.values().map(|(_, borrower, _)| look(borrower)).collect()
    }

    /// Whether there is a waiter in the queue that `fits`.
    pub fn some_waiter(&self, fits: impl Fn(&W) -> bool) -> bool {
        lock(&self.state).queue.values().any(|(_, _, waiter)| fits(waiter))
    }

    pub fn is_held(&self, key: &K) -> bool {
        lock(&self.state).held.contains_key(key)
    }

    /// Whether this key is in the queue.
    pub fn waits(&self, key: &K) -> bool {
        lock(&self.state).place_of(key).is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::cmp::Ordering;

    type Numbers = Limiter<u8, u8, u8>;

    #[test]
    fn who_comes_first_is_served_first() {
        let limiter = Numbers::new(Some(1));
        assert_eq!(limiter.acquire(1, 1, || 1), Ok(true));
        assert_eq!(limiter.acquire(2, 2, || 2), Ok(false));
        assert_eq!(limiter.acquire(3, 3, || 3), Ok(false));
        assert_eq!(limiter.release(&1), Some((1, vec![2])));
        assert_eq!(limiter.release(&1), None);
        assert_eq!(limiter.acquire_nowait(4, 4), Err(Refused::NoneLeft(4)));
        assert_eq!(limiter.release(&2), Some((2, vec![3])));
    }

    #[test]
    fn nobody_borrows_twice() {
        let limiter = Numbers::new(None);
        assert_eq!(limiter.acquire_nowait(1, 1), Ok(()));
        assert_eq!(limiter.acquire(1, 2, || 1), Err(Refused::HasOne(2)));
    }

    #[test]
    fn a_higher_total_serves_those_who_wait_and_a_lower_one_takes_nothing_away() {
        let limiter = Numbers::new(Some(0));
        for key in 1..=3 {
            assert_eq!(limiter.acquire(key, key, || key), Ok(false));
        }
        assert_eq!(limiter.set_total(Some(2)), [1, 2]);
        assert!(limiter.set_total(Some(1)).is_empty());
        assert_eq!(limiter.release(&1), Some((1, vec![])));
        assert_eq!(limiter.release(&2), Some((2, vec![3])));
    }

    /// A key that counts how often it is compared.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Counting(u32);

    thread_local! {
        static COMPARED: Cell<u32> = const { Cell::new(0) };
    }

    impl PartialOrd for Counting {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counting {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn leaving_a_long_queue_takes_hardly_longer_than_leaving_a_short_one() {
        let comparisons_each = |count: u32| {
            let limiter = Limiter::new(Some(0));
            for key in 0..count {
                assert_eq!(limiter.acquire(Counting(key), (), || ()).ok(), Some(false));
            }
            COMPARED.set(0);
            for key in (0..count).rev() {
                assert!(limiter.withdraw(&Counting(key)).is_some());
            }
            COMPARED.get() / count
        };
        assert!(comparisons_each(16_000) < 3 * comparisons_each(250));
    }

    #[test]
    fn who_leaves_the_queue_gets_no_token() {
        let limiter = Numbers::new(Some(1));
        assert_eq!(limiter.acquire(1, 1, || 1), Ok(true));
        assert_eq!(limiter.acquire(2, 2, || 2), Ok(false));
        assert_eq!(limiter.withdraw(&2), Some((2, 2)));
        assert_eq!(limiter.withdraw(&2), None);
        assert_eq!(limiter.release(&1), Some((1, vec![])));
    }

    #[test]
    fn who_queues_twice_leaves_one_place_after_the_other() {
        let limiter = Numbers::new(Some(0));
        for (key, waiter) in [(1, 1), (2, 2), (1, 3)] {
            assert_eq!(limiter.acquire(key, key, || waiter), Ok(false));
        }
        assert_eq!(limiter.withdraw(&1), Some((1, 1)));
        assert!(limiter.waits(&1));
        assert_eq!(limiter.withdraw(&1), Some((1, 3)));
        assert!(!limiter.waits(&1));
        assert_eq!(limiter.set_total(Some(2)), [2]);
    }

    #[test]
    fn one_may_go_beyond_the_limit_and_counts_there() {
        let limiter = Numbers::new(Some(1));
        assert_eq!(limiter.acquire(1, 1, || 1), Ok(true));
        assert_eq!(limiter.acquire(2, 2, || 2), Ok(false));
        assert_eq!(limiter.acquire(3, 3, || 3), Ok(false));
        assert_eq!(limiter.exceed(|waiter| *waiter == 3), Some(3));
        assert_eq!(limiter.release(&1), Some((1, vec![])));
        assert_eq!(limiter.counts(), Counts { total: Some(1), borrowed: 1, waiting: 1, moves: 3 });
        assert_eq!(limiter.release(&3), Some((3, vec![2])));
    }
}
