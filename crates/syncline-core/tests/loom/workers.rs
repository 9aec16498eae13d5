//! Worker threads take every job, and tokens go round.

use crate::common::{model, model_of_three, thread};
use std::time::Duration;
use syncline_core::limiter::Limiter;
use syncline_core::pool::{Desk, Need, Pool};
use syncline_core::sync::Arc;

/// Sees to a need as the workers do; a thread that would be started is this one.
fn meet(pool: &Pool<u8>, need: Need) -> u8 {
    match need {
        Need::Nobody => 0,
        Need::Wake(summons) => {
            if let Some(announcement) = summons.deliver() {
                announcement.make();
            }
            0
        }
        Need::Start => {
            pool.arrive();
            work_until_retired(pool)
        }
    }
}

/// A worker that goes home as soon as nobody calls it. Returns the sum of its jobs.
fn work_until_retired(pool: &Pool<u8>) -> u8 {
    let desk = Desk::new();
    let mut sum = 0;
    loop {
        while let Some((job, need)) = pool.take() {
            sum += job + meet(pool, need);
        }
        if pool.sit_down(&desk) && !pool.doze(&desk, Some(Duration::ZERO)) {
            return sum;
        }
    }
}

/// A job that comes while the only worker goes home is taken: by that one, or by another that is started for it.
#[test]
fn no_job_is_handed_to_a_worker_that_goes_home() {
    model(|| {
        let pool = Arc::new(Pool::new(1));
        let worker = {
            let pool = Arc::clone(&pool);
            assert!(matches!(pool.submit(1), Need::Start));
            thread::spawn(move || {
                pool.arrive();
                work_until_retired(&pool)
            })
        };
        let here = meet(&pool, pool.submit(2));
        assert!(worker.join().is_ok_and(|there| here + there == 3));
        assert_eq!(pool.counts(), (0, 0));
    });
}

/// The same with two that hand over jobs: each is taken once, and every thread goes home.
#[test]
fn jobs_of_two_meet_a_worker_that_goes_home() {
    model_of_three(|| {
        let pool = Arc::new(Pool::new(1));
        let need = pool.submit(1);
        let others = [2, 4].map(|job| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || meet(&pool, pool.submit(job)))
        });
        let here = meet(&pool, need);
        let there: u8 = others.into_iter().map(|other| other.join().unwrap_or(100)).sum();
        assert_eq!(here + there, 7);
        assert_eq!(pool.counts(), (0, 0));
    });
}

/// A worker that sleeps without end is called for a job that comes at whatever moment.
#[test]
fn a_sleeping_worker_is_called() {
    model(|| {
        let pool = Arc::new(Pool::new(1));
        assert!(matches!(pool.submit(1), Need::Start));
        pool.arrive();
        assert!(pool.take().is_some());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.submit(2) {
                // It was busy still, and there would be a second thread now: as good as none started.
                Need::Start => pool.not_started(|_| false).is_none(),
                need => meet(&pool, need) == 0,
            })
        };
        let desk = Desk::new();
        let mut got = None;
        while got.is_none() {
            assert!(!pool.sit_down(&desk) || pool.doze(&desk, None));
            got = pool.take().map(|(job, _)| job);
        }
        assert_eq!(got, Some(2));
        assert!(other.join().is_ok_and(|fine| fine));
    });
}

/// A token that comes back while somebody begins to wait for it reaches that one.
#[test]
fn a_token_that_comes_back_is_not_missed() {
    model(|| {
        let limiter = Arc::new(Limiter::<u8, u8, u8>::new(Some(1)));
        assert_eq!(limiter.acquire_nowait(1, 1), Ok(()));
        let other = {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || limiter.acquire(2, 2, || 2))
        };
        let served = limiter.release(&1).map(|(_, served)| served);
        let got = other.join().unwrap_or(Ok(false));
        assert_eq!(served, Some(if got == Ok(true) { vec![] } else { vec![2] }));
        assert_eq!(limiter.counts().borrowed, 1);
    });
}
