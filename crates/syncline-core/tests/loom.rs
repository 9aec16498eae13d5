//! The core's races, in every order that loom can think of.
//!
//! Run it with `nox -s loom`. Each model says which promise it checks.
#![cfg(loom)]

use loom::thread;
use std::collections::VecDeque;
use syncline_core::latch::{Latch, Waited};
use syncline_core::mailbox::{Mailbox, SendError, Sent};
use syncline_core::runners::{Find, Runners};
use syncline_core::slot::Slot;
use syncline_core::sync::Arc;
use syncline_core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use syncline_core::waits::Node;

fn wait_until_open<T>(slot: &Slot<T>) {
    while slot.wait(None) != Waited::Open {}
}

/// No wake-up is lost, whenever the latch opens, and both sleepers wake.
#[test]
fn a_latch_wakes_every_sleeper() {
    loom::model(|| {
        let latch = Arc::new(Latch::new());
        let other = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || latch.open())
        };
        while latch.wait(None) != Waited::Open {}
        assert!(other.join().is_ok());
        assert!(latch.is_open());
    });
}

/// What was filled before the publication is there after the wait.
#[test]
fn a_published_slot_holds_its_result() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let filler = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                assert_eq!(slot.fill(7), Ok(()));
                slot.publish();
            })
        };
        wait_until_open(&slot);
        assert_eq!(slot.take(), Some(7));
        assert!(filler.join().is_ok());
    });
}

/// Of two that settle one call, one wins, and nothing is lost.
#[test]
fn a_slot_is_filled_once() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.fill(1).is_ok())
        };
        let mine = slot.fill(2).is_ok();
        let theirs = other.join().is_ok_and(|won| won);
        assert!(mine != theirs);
        assert_eq!(slot.take(), Some(if mine { 2 } else { 1 }));
    });
}

/// A loop that parks while a job is sent either sees the job or is woken for it.
#[test]
fn a_parked_loop_is_woken_for_its_mail() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let wake = Arc::new(Latch::new());
        let sender = {
            let (mailbox, wake) = (Arc::clone(&mailbox), Arc::clone(&wake));
            thread::spawn(move || {
                if mailbox.send(1) == Ok(Sent::WakeTheLoop) {
                    wake.open();
                }
            })
        };
        if mailbox.park() {
            while wake.wait(None) != Waited::Open {}
        }
        let mut mail = VecDeque::new();
        assert!(mailbox.drain(&mut mail));
        assert_eq!(mail, [1]);
        assert!(sender.join().is_ok());
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
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || usize::from(mailbox.send(1) == Err(SendError(1))))
        };
        let mut mail = VecDeque::new();
        mailbox.drain(&mut mail);
        let kept = mail.len() + mailbox.close().len();
        let returned = sender.join().unwrap_or(9);
        assert_eq!(kept + returned, 1);
    });
}

/// Shutdown: whether its job was run, left over or refused, the caller's wait ends.
#[test]
fn a_callers_wait_ends_when_its_runner_does() {
    loom::model(|| {
        let mailbox: Arc<Mailbox<Arc<Slot<&str>>>> = Arc::new(Mailbox::new());
        let runner = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let mut mail = VecDeque::new();
                mailbox.drain(&mut mail);
                for slot in mail {
                    assert!(slot.fill("ran").is_ok());
                    slot.publish();
                }
                for slot in mailbox.close() {
                    assert!(slot.fill("closed").is_ok());
                    slot.publish();
                }
            })
        };
        let slot = Arc::new(Slot::new());
        let end = match mailbox.send(Arc::clone(&slot)) {
            Ok(_) => {
                wait_until_open(&slot);
                slot.take()
            }
            Err(_) => Some("refused"),
        };
        assert!(end.is_some());
        assert!(runner.join().is_ok());
    });
}

/// Two threads that need one runner start it once, and both get it.
#[test]
fn a_runner_is_started_once() {
    loom::model(|| {
        let runners: Arc<Runners<u8, usize>> = Arc::new(Runners::new());
        let starts = Arc::new(AtomicUsize::new(0));
        let get = |runners: &Runners<u8, usize>, starts: &AtomicUsize| loop {
            match runners.find(&0, |_| true) {
                Find::Alive(runner) => return runner,
                Find::Wait(latch) => while latch.wait(None) != Waited::Open {},
                Find::Start(start) => {
                    assert_eq!(start.ready(starts.fetch_add(1, SeqCst) + 1), Ok(()));
                }
                Find::Closed => unreachable!("nobody closes"),
            }
        };
        let other = {
            let (runners, starts) = (Arc::clone(&runners), Arc::clone(&starts));
            thread::spawn(move || get(&runners, &starts))
        };
        assert_eq!(get(&runners, &starts), 1);
        assert!(other.join().is_ok_and(|runner| runner == 1));
        assert_eq!(starts.load(SeqCst), 1);
    });
}

/// A runner that starts while its bridge closes is ended by one of the two: the closer or the starter.
#[test]
fn a_start_that_meets_a_close_is_not_forgotten() {
    loom::model(|| {
        let runners: Arc<Runners<u8, usize>> = Arc::new(Runners::new());
        let starter = {
            let runners = Arc::clone(&runners);
            thread::spawn(move || match runners.find(&0, |_| true) {
                Find::Start(start) => (1, start.ready(1).err().into_iter().count()),
                _ => (0, 0),
            })
        };
        let closed = runners.close().len();
        let (started, ended) = starter.join().unwrap_or((9, 0));
        assert_eq!(closed + ended, started);
    });
}

/// Two threads that close a circle at the same moment do not both wait.
#[test]
fn a_circle_is_seen_by_one_of_those_who_close_it() {
    loom::model(|| {
        let (a, b) = (Node::new(), Node::new());
        let waiting = Arc::new(AtomicUsize::new(0));
        let other = {
            let (a, b, waiting) = (Arc::clone(&a), Arc::clone(&b), Arc::clone(&waiting));
            thread::spawn(move || {
                if let Ok(edge) = b.wait_for(&a) {
                    waiting.fetch_add(1, SeqCst);
                    std::mem::forget(edge);
                }
            })
        };
        if let Ok(edge) = a.wait_for(&b) {
            waiting.fetch_add(1, SeqCst);
            std::mem::forget(edge);
        }
        assert!(other.join().is_ok());
        assert!(waiting.load(SeqCst) < 2);
    });
}
