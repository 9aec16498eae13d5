//! Counters of one bridge. They are only shown, and decide nothing. So they are relaxed atomics, and a reader may see
//! one counter older than another.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Stats {
    /// Calls begun.
    pub calls: Counter,
    /// Calls whose caller has stopped waiting, or whose future is done.
    pub ended: Counter,
    /// Calls made by sync code that a coroutine on one of our loops called.
    pub nested: Counter,
    /// System calls made to wake a parked loop.
    pub wakes: Counter,
}

/// From a microsecond to more than an hour, and one bucket for what takes longer.
const BUCKETS: usize = 34;

/// How often something took how long. Each bucket reaches twice as far as the one before; the first to a microsecond.
#[derive(Debug)]
pub struct Histogram([Counter; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    pub fn add(&self, took: Duration) {
        // What takes a whole number of microseconds belongs to the bucket that ends there.
        let micros = took.as_nanos().div_ceil(1000);
        let bucket = micros.checked_next_power_of_two().map_or(BUCKETS, |bound| bound.trailing_zeros() as usize);
        self.0[bucket.min(BUCKETS - 1)].add(1);
    }

    /// The buckets that something fell into: the longest time that belongs there, in seconds, and how many did.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bound = |index| if index + 1 == BUCKETS { f64::INFINITY } else { (1_u64 << index) as f64 * 1e-6 };
        let all = self.0.iter().enumerate().map(move |(index, counter)| (bound(index), counter.get()));
        all.filter(|(_, count)| *count > 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_reaches_twice_as_far_as_the_one_before() {
        let histogram = Histogram::default();
        for nanos in [0, 1, 1000, 1001, 2000, 2001, 4000, 1_000_000] {
            histogram.add(Duration::from_nanos(nanos));
        }
        let found = histogram.buckets().map(|(bound, count)| ((bound * 1e6).round() as u64, count)).collect::<Vec<_>>();
        assert_eq!(found, [(1, 3), (2, 2), (4, 2), (1024, 1)]);
    }

    #[test]
    fn what_takes_longest_falls_into_the_last_bucket() {
        let histogram = Histogram::default();
        histogram.add(Duration::from_secs(4000));
        histogram.add(Duration::from_secs(1 << 20));
        histogram.add(Duration::MAX);
        let found = histogram.buckets().collect::<Vec<_>>();
        assert_eq!(found.len(), 2);
        assert!(found[0].0 > 4000.0 && found[0].1 == 1);
        assert_eq!(found[1], (f64::INFINITY, 2));
    }
}
