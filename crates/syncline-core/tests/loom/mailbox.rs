//! What is sent to a loop arrives, and wakes it.

use crate::common::{Post, model, model_of_three, thread};
use std::collections::VecDeque;
use syncline_core::mailbox::{Mailbox, SendError, Sent};
use syncline_core::sync::Arc;
use syncline_core::waits::Node;

/// A loop that parks again and again hears of each job.
#[test]
fn a_parked_loop_is_woken_for_its_mail() {
    model(|| {
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
    model(|| {
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

/// A job that lies in the mailbox is taken by the loop, or taken back, and never by both.
#[test]
fn each_job_is_taken_once() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        assert_eq!((mailbox.send(1), mailbox.send(2)), (Ok(Sent::LoopIsAwake), Ok(Sent::LoopIsAwake)));
        let other = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.take_back(|job| *job == 2).len())
        };
        let mut got = Vec::new();
        let mut next = mailbox.take_first();
        while let Some((job, has_more)) = next {
            got.push(job);
            next = if has_more { mailbox.take_next() } else { None };
        }
        let taken_back = other.join().unwrap_or(0);
        assert_eq!(got.len() + taken_back, 2);
        assert_eq!(got[0], 1);
        assert!(mailbox.park());
    });
}

/// A loop's thread begins to wait for whoever sends it a job: one of the two sees that this will not be taken.
#[test]
fn a_job_for_a_thread_that_comes_to_wait_is_taken_back() {
    model(|| {
        let (mailbox, node, sender) = (Arc::new(Mailbox::new()), Node::new(), Node::new());
        let other = {
            let (mailbox, node, sender) = (Arc::clone(&mailbox), Arc::clone(&node), Arc::clone(&sender));
            thread::spawn(move || {
                assert_eq!(mailbox.send(1), Ok(Sent::LoopIsAwake));
                if node.leads_to(&sender) { mailbox.take_back(|_| true).len() } else { 0 }
            })
        };
        let _edge = node.begin_wait(&sender);
        let here = mailbox.take_back(|_| true).len();
        assert_eq!(here + other.join().unwrap_or(0), 1);
    });
}

/// A loop that is fed by callbacks: somebody schedules one whenever there is mail that no running callback will see.
#[test]
fn no_mail_waits_without_a_callback() {
    model(|| {
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
    model(|| {
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
