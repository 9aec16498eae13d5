//! The core's races, in every order that loom can think of.
//!
//! Run it with `nox -s loom`. Each model says which promise it checks. A wake-up that gets lost shows as a deadlock, which
//! loom reports: nothing here has a timeout that could hide it. Models of two threads run in all orders. Those of three
//! have too many, and are bounded to the orders with few preemptions; LOOM_MAX_PREEMPTIONS sets another bound for all.
#![cfg(loom)]

use loom::thread;
use std::collections::VecDeque;
use std::time::Duration;
use syncline_core::latch::{Latch, Waited};
use syncline_core::limiter::Limiter;
use syncline_core::mailbox::{Mailbox, SendError, Sent};
use syncline_core::meeting::Meeting;
use syncline_core::pool::{Desk, Need, Pool};
use syncline_core::runners::{Find, Runners};
use syncline_core::slot::Slot;
use syncline_core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use syncline_core::sync::{Arc, Condvar, Mutex, lock};
use syncline_core::waits::Node;

/// What stands for the eventfd that wakes a loop: rung by senders, heard by one loop, which forgets it then.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.heard.notify_one();
    }

    fn listen(&self) {
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
struct Post<T> {
    mailbox: Mailbox<T>,
    bell: Bell,
}

impl<T> Post<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { mailbox: Mailbox::new(), bell: Bell::default() })
    }

    /// As any thread does.
    fn send(&self, job: T) -> Result<(), SendError<T>> {
        if self.mailbox.send(job)? == Sent::WakeTheLoop {
            self.bell.ring();
        }
        Ok(())
    }

    /// One turn of the loop.
    fn receive(&self, mail: &mut VecDeque<T>) {
        if self.mailbox.park() {
            self.bell.listen();
            self.mailbox.unpark();
        }
        self.mailbox.drain(mail);
    }
}

/// For two threads besides the first: all orders with up to four preemptions, which takes seconds; six take half a minute.
fn model_of_three(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(model);
}

fn wait_until_open(latch: &Latch) {
    while latch.wait(None) != Waited::Open {}
}

fn wait_until_published<T>(slot: &Slot<T>) {
    while slot.wait(None) != Waited::Open {}
}

fn fill_and_publish<T>(slot: &Slot<T>, value: T) -> bool {
    let won = slot.fill(value).is_ok();
    slot.publish();
    won
}

/// No wake-up is lost, whenever the latch opens, and both sleepers wake.
#[test]
fn a_latch_wakes_every_sleeper() {
    model_of_three(|| {
        let latch = Arc::new(Latch::new());
        let sleeper = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || wait_until_open(&latch))
        };
        let opener = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || latch.open())
        };
        wait_until_open(&latch);
        assert!(sleeper.join().is_ok() && opener.join().is_ok());
        assert!(latch.is_open());
    });
}

/// A latch that two threads open wakes its sleeper, whichever is first.
#[test]
fn a_latch_may_be_opened_twice() {
    model_of_three(|| {
        let latch = Arc::new(Latch::new());
        let openers = [(); 2].map(|()| {
            let latch = Arc::clone(&latch);
            thread::spawn(move || latch.open())
        });
        wait_until_open(&latch);
        assert!(openers.into_iter().all(|opener| opener.join().is_ok()));
    });
}

/// What was filled before the publication is there after the wait.
#[test]
fn a_published_slot_holds_its_result() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let filler = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || assert!(fill_and_publish(&slot, 7)))
        };
        wait_until_published(&slot);
        assert_eq!(slot.take(), Some(7));
        assert!(filler.join().is_ok());
    });
}

/// Of two that settle one call (its coroutine, and a loop that shuts down) one wins, and the caller gets that one's result.
#[test]
fn a_slot_is_filled_once() {
    model_of_three(|| {
        let slot = Arc::new(Slot::new());
        let settlers = [1, 2].map(|value| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || fill_and_publish(&slot, value))
        });
        wait_until_published(&slot);
        let got = slot.take();
        let won = settlers.map(|settler| settler.join().is_ok_and(|won| won));
        assert_eq!(got, Some(if won[0] { 1 } else { 2 }));
        assert!(won[0] != won[1]);
        assert_eq!(slot.take(), None);
    });
}

/// A caller whose time is over takes what is there or leaves; what comes later finds no taker, and nothing comes twice.
#[test]
fn a_caller_that_stops_waiting_misses_nothing_that_is_there() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let filler = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || fill_and_publish(&slot, 7))
        };
        let was_published = slot.is_published();
        let got = slot.take();
        assert!(got.is_some() || !was_published);
        assert!(filler.join().is_ok_and(|won| won));
        assert_eq!(got.or_else(|| slot.take()), Some(7));
        assert_eq!(slot.take(), None);
    });
}

/// A loop that parks again and again hears of each job.
#[test]
fn a_parked_loop_is_woken_for_its_mail() {
    loom::model(|| {
        let post = Post::new();
        let sender = {
            let post = Arc::clone(&post);
            thread::spawn(move || [1, 2].map(|job| post.send(job)))
        };
        let (mut mail, mut got) = (VecDeque::new(), Vec::new());
        while got.len() < 2 {
            post.receive(&mut mail);
            got.extend(mail.drain(..));
        }
        assert_eq!(got, [1, 2]);
        assert!(sender.join().is_ok_and(|sent| sent == [Ok(()), Ok(())]));
        assert!(!post.mailbox.has_mail());
    });
}

/// The same with two senders.
#[test]
fn a_parked_loop_is_woken_for_the_mail_of_two() {
    model_of_three(|| {
        let post = Post::new();
        let senders = [1, 2].map(|job| {
            let post = Arc::clone(&post);
            thread::spawn(move || post.send(job))
        });
        let (mut mail, mut sum) = (VecDeque::new(), 0);
        while sum < 3 {
            post.receive(&mut mail);
            sum += mail.drain(..).sum::<i32>();
        }
        assert!(senders.into_iter().all(|sender| sender.join().is_ok_and(|sent| sent.is_ok())));
    });
}

/// A loop that looks without the lock, as a spinning one does, is not told that there is no mail when there is.
#[test]
fn mail_is_counted_while_there_is_some() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.send(1).is_ok())
        };
        let mut mail = VecDeque::new();
        mailbox.drain(&mut mail);
        assert!(sender.join().is_ok_and(|sent| sent));
        assert_eq!(mailbox.has_mail(), mail.is_empty());
    });
}

/// A loop that is fed by callbacks: somebody schedules one whenever there is mail that no running callback will see.
#[test]
fn no_mail_waits_without_a_callback() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new());
        assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.send(2) == Ok(Sent::WakeTheLoop))
        };
        let (mut mail, mut got) = (VecDeque::new(), 0);
        loop {
            mailbox.drain(&mut mail);
            got += mail.drain(..).count();
            if mailbox.park() {
                break;
            }
        }
        let scheduled = sender.join().is_ok_and(|scheduled| scheduled);
        assert_eq!(got, if scheduled { 1 } else { 2 });
    });
}

/// Of two senders exactly one is told to wake a loop that was parked before.
#[test]
fn one_sender_wakes() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new());
        assert!(mailbox.park());
        let send = |mailbox: &Mailbox<u8>| usize::from(mailbox.send(1) == Ok(Sent::WakeTheLoop));
        let other = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || send(&mailbox))
        };
        let woken = send(&mailbox) + other.join().unwrap_or(9);
        assert_eq!(woken, 1);
    });
}

/// A job that meets the closing of its mailbox is drained, left over, or handed back: one of the three.
#[test]
fn no_job_is_lost_at_close() {
    model_of_three(|| {
        let mailbox = Arc::new(Mailbox::new());
        let senders = [1, 2].map(|job| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.send(job).err().map(|SendError(job)| job))
        });
        let mut mail = VecDeque::new();
        mailbox.drain(&mut mail);
        mail.extend(mailbox.close());
        mail.extend(senders.into_iter().filter_map(|sender| sender.join().ok().flatten()));
        mail.make_contiguous().sort_unstable();
        assert_eq!(mail, [1, 2]);
        assert!(!mailbox.has_mail() && mailbox.close().is_empty());
    });
}

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

/// The runner for key 0, found or started; none from a closed bridge. Counts what it started, and what it had to end.
fn get(runners: &Runners<u8, usize>, starts: &AtomicUsize, ended: &AtomicUsize) -> Option<usize> {
    loop {
        match runners.find(&0, |_| true) {
            Find::Alive(runner) => return Some(runner),
            Find::Wait(latch) => wait_until_open(&latch),
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
    loom::model(|| {
        let shared = Arc::new((Runners::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || get(&shared.0, &shared.1, &shared.2))
        };
        assert_eq!(get(&shared.0, &shared.1, &shared.2), Some(1));
        assert!(other.join().is_ok_and(|runner| runner == Some(1)));
        assert_eq!(shared.1.load(SeqCst), 1);
    });
}

/// Who waits for a start that fails looks again, and starts.
#[test]
fn a_start_that_fails_is_made_by_another() {
    loom::model(|| {
        let shared = Arc::new((Runners::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let failing = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || drop(shared.0.find(&0, |_| true)))
        };
        assert_eq!(get(&shared.0, &shared.1, &shared.2), Some(1));
        assert!(failing.join().is_ok());
    });
}

/// A runner that starts while its bridge closes is ended by one of the two, and whoever waits for its start goes on.
#[test]
fn a_start_that_meets_a_close_is_not_forgotten() {
    model_of_three(|| {
        let shared = Arc::new((Runners::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let callers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || get(&shared.0, &shared.1, &shared.2))
        });
        let closed = shared.0.close().len();
        assert!(callers.into_iter().all(|caller| caller.join().is_ok()));
        assert_eq!(closed + shared.2.load(SeqCst), shared.1.load(SeqCst));
        assert!(shared.0.alive().is_empty());
    });
}

/// Two threads that close a circle at the same moment do not both wait.
#[test]
fn a_circle_is_seen_by_one_of_those_who_close_it() {
    loom::model(|| {
        let (a, b) = (Node::new(), Node::new());
        let other = {
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            // The edge stays: this thread waits from now on.
            thread::spawn(move || b.wait_for(&a).map(std::mem::forget).is_ok())
        };
        let waits = a.wait_for(&b).map(std::mem::forget).is_ok();
        assert!(!(other.join().is_ok_and(|waits| waits) && waits));
    });
}

/// The same where the circle goes through a third thread, which waits already.
#[test]
fn a_longer_circle_is_seen_by_one_of_those_who_close_it() {
    loom::model(|| {
        let (a, b, c) = (Node::new(), Node::new(), Node::new());
        let Ok(_edge) = b.wait_for(&c) else { unreachable!("nobody waits yet") };
        let other = {
            let (a, c) = (Arc::clone(&a), Arc::clone(&c));
            thread::spawn(move || c.wait_for(&a).map(std::mem::forget).is_ok())
        };
        let waits = a.wait_for(&b).map(std::mem::forget).is_ok();
        assert!(!(other.join().is_ok_and(|waits| waits) && waits));
    });
}

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
    loom::model(|| {
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
    loom::model(|| {
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
    loom::model(|| {
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

/// A result is either taken by who waits for it, or word is sent: never both, never neither.
#[test]
fn a_result_is_met_or_sent() {
    loom::model(|| {
        let meeting = Arc::new(Meeting::new());
        meeting.expect();
        let other = {
            let meeting = Arc::clone(&meeting);
            thread::spawn(move || meeting.meet())
        };
        let seen = meeting.is_met();
        let has_it = meeting.leave();
        assert!(has_it || !seen);
        assert!(other.join().is_ok_and(|met| met == has_it));
    });
}
