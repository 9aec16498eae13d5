//! Runners are started once, and end with what they owe.

use crate::common::{Post, fill_and_publish, model, model_of_three, thread, wait_until_open, wait_until_published};
use std::collections::VecDeque;
use syncline_core::runners::{Find, Runners};
use syncline_core::slot::Slot;
use syncline_core::sync::Arc;
use syncline_core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Shutdown: whether its job was run, left over or refused, the caller's wait ends, and the loop's does too.
#[test]
fn a_callers_wait_ends_when_its_runner_does() {
    model_of_three(|| {
        enum Job {
            Start(Arc<Slot<&'static str>>),
            Stop,
        }
        let post = Post::new();
        let runner = {
            let post = Arc::clone(&post);
            thread::spawn(move || {
                let (mut mail, mut stopped) = (VecDeque::new(), false);
                while !stopped {
                    post.receive(&mut mail);
                    for job in mail.drain(..) {
                        match job {
                            Job::Start(slot) => assert!(fill_and_publish(&slot, "ran")),
                            Job::Stop => stopped = true,
                        }
                    }
                }
                for job in post.mailbox.close() {
                    if let Job::Start(slot) = job {
                        assert!(fill_and_publish(&slot, "left over"));
                    }
                }
            })
        };
        let closer = {
            let post = Arc::clone(&post);
            thread::spawn(move || assert!(post.send(Job::Stop).is_ok()))
        };
        let slot = Arc::new(Slot::new());
        let end = match post.send(Job::Start(Arc::clone(&slot))) {
            Ok(()) => {
                wait_until_published(&slot);
                slot.take()
            }
            Err(_) => Some("refused"),
        };
        assert!(end.is_some());
        assert!(runner.join().is_ok() && closer.join().is_ok());
    });
}

type Numbers = Runners<u8, usize, ()>;

/// The runner for key 0, found or started; none from a closed bridge. Counts what it started, and what it had to end.
fn get(runners: &Arc<Numbers>, me: u64, starts: &AtomicUsize, ended: &AtomicUsize) -> Option<usize> {
    loop {
        match runners.find(&0, me, |_| true) {
            Find::Alive(runner) => return Some(runner),
            Find::Wait(starting) => wait_until_open(&starting.over),
            Find::Start(start) => {
                if start.ready(starts.fetch_add(1, SeqCst) + 1).is_err() {
                    ended.fetch_add(1, SeqCst);
                }
            }
            Find::Closed => return None,
        }
    }
}

/// Two threads that need one runner start it once, and both get it.
#[test]
fn a_runner_is_started_once() {
    model(|| {
        let shared = Arc::new((Numbers::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || get(&shared.0, 1, &shared.1, &shared.2))
        };
        assert_eq!(get(&shared.0, 2, &shared.1, &shared.2), Some(1));
        assert!(other.join().is_ok_and(|runner| runner == Some(1)));
        assert_eq!(shared.1.load(SeqCst), 1);
    });
}

/// Who waits for a start that fails looks again, and starts.
#[test]
fn a_start_that_fails_is_made_by_another() {
    model(|| {
        let shared = Arc::new((Numbers::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let failing = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || drop(shared.0.find(&0, 1, |_| true)))
        };
        assert_eq!(get(&shared.0, 2, &shared.1, &shared.2), Some(1));
        assert!(failing.join().is_ok());
    });
}

/// A runner that starts while its bridge closes is ended by one of the two, and whoever waits for its start goes on.
#[test]
fn a_start_that_meets_a_close_is_not_forgotten() {
    model_of_three(|| {
        let shared = Arc::new((Numbers::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let callers = [1, 2].map(|me| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || get(&shared.0, me, &shared.1, &shared.2))
        });
        let closed = shared.0.close().len();
        assert!(callers.into_iter().all(|caller| caller.join().is_ok()));
        assert_eq!(closed + shared.2.load(SeqCst), shared.1.load(SeqCst));
        assert!(shared.0.alive().is_empty());
    });
}

/// A start whose thread may be coming to life is given up by one of the two, or by none: the runner is there, or the
/// key is free.
#[test]
fn a_start_that_is_withdrawn_meets_its_thread() {
    model(|| {
        let runners = Numbers::new();
        let Find::Start(start) = runners.find(&0, 1, |_| true) else { panic!("expected to start") };
        let starting = Arc::clone(start.starting());
        let thread = thread::spawn(move || start.starting().begin() && start.ready(1).is_ok());
        let withdrawn = runners.withdraw(&starting);
        let is_there = thread.join().is_ok_and(|is_there| is_there);
        assert!(starting.over.is_open());
        assert_ne!(withdrawn, is_there);
        assert_eq!(runners.alive().len(), usize::from(is_there));
    });
}

/// Why a start failed is told to the thread that waits, or given back to be logged; never both, never neither.
#[test]
fn why_a_start_failed_is_heard_once() {
    model(|| {
        let runners = Runners::<u8, usize, &str>::new();
        let Find::Start(start) = runners.find(&0, 1, |_| true) else { panic!("expected to start") };
        let starting = Arc::clone(start.starting());
        let thread = thread::spawn(move || start.fail("no descriptors left").is_err());
        let heard = starting.abandon().is_some();
        assert!(thread.join().is_ok_and(|given_back| given_back != heard));
    });
}
