//! Waits end, and bring what they waited for: latches, slots, meetings, circles of waits.

use crate::common::{fill_and_publish, model, model_of_three, thread, wait_until_open, wait_until_published};
use syncline_core::closing::{Closing, Rouse};
use syncline_core::latch::{Latch, Waited};
use syncline_core::meeting::Meeting;
use syncline_core::outbox::{Outbox, Publish};
use syncline_core::slot::Slot;
use syncline_core::sync::atomic::AtomicBool;
use syncline_core::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Arc, Mutex, lock};
use syncline_core::waits::Node;

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

/// Whoever is roused sees what was laid down before, whenever that comes, and the opening is not missed for it.
#[test]
fn a_roused_waiter_finds_what_it_was_roused_for() {
    model_of_three(|| {
        let (latch, laid) = (Arc::new(Latch::new()), Arc::new(Mutex::new(0)));
        let rouser = {
            let (latch, laid) = (Arc::clone(&latch), Arc::clone(&laid));
            thread::spawn(move || {
                *lock(&laid) += 1;
                latch.rouse();
            })
        };
        let opener = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || latch.open())
        };
        loop {
            match latch.wait(None) {
                Waited::Open => break,
                Waited::Roused => assert_eq!(*lock(&laid), 1),
                Waited::Interrupted | Waited::TimedOut => {}
            }
        }
        assert!(rouser.join().is_ok() && opener.join().is_ok());
        assert!(latch.is_open());
    });
}

/// A waiter that was roused before it waits does not sleep: nobody would wake it.
#[test]
fn no_rousing_is_lost() {
    model(|| {
        let latch = Arc::new(Latch::new());
        let rouser = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || latch.rouse())
        };
        while latch.wait(None) != Waited::Roused {}
        assert!(rouser.join().is_ok());
        assert!(!latch.is_stirred());
    });
}

/// What was filled before the publication is there after the wait.
#[test]
fn a_published_slot_holds_its_result() {
    model(|| {
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

/// Of two that settle one call (its coroutine, and a loop that shuts down) one wins, and the caller gets that one's
/// result.
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
    model(|| {
        let slot = Arc::new(Slot::new());
        let filler = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || fill_and_publish(&slot, 7))
        };
        let was_published = slot.is_stirred();
        let got = slot.take();
        assert!(got.is_some() || !was_published);
        assert!(filler.join().is_ok_and(|won| won));
        assert_eq!(got.or_else(|| slot.take()), Some(7));
        assert_eq!(slot.take(), None);
    });
}

/// Two threads that close a circle at the same moment do not both wait.
#[test]
fn a_circle_is_seen_by_one_of_those_who_close_it() {
    model(|| {
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
    model(|| {
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

/// A result is either taken by who waits for it, or word is sent: never both, never neither.
#[test]
fn a_result_is_met_or_sent() {
    model(|| {
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

struct Result(Arc<Slot<()>>);

impl Publish for Result {
    fn publish(&self) {
        self.0.publish();
    }
}

/// A result that another thread adds while the loop's thread flushes for the last time is published all the same.
#[test]
fn the_last_flush_leaves_no_result_behind() {
    model(|| {
        let (outbox, slot) = (Arc::new(Outbox::new(true)), Arc::new(Slot::new()));
        let adding = {
            let (outbox, slot) = (Arc::clone(&outbox), Arc::clone(&slot));
            thread::spawn(move || outbox.add(Result(slot)))
        };
        outbox.stop_deferring();
        outbox.flush();
        assert!(adding.join().is_ok());
        assert!(slot.is_stirred());
    });
}

struct Blocking(Slot<()>);

impl Rouse for Blocking {
    fn rouse(&self) {
        self.0.rouse();
    }
}

/// Whoever blocks a loop sees that it is being closed, or is roused, whenever the closing begins.
#[test]
fn who_blocks_a_loop_hears_of_its_closing() {
    model(|| {
        let closing = Arc::new(Closing::default());
        let closer = {
            let closing = Arc::clone(&closing);
            thread::spawn(move || assert!(closing.begin()))
        };
        let nested = Arc::new(Blocking(Slot::new()));
        closing.add(&nested);
        while !closing.has_begun() {
            nested.0.wait(None);
        }
        closing.remove(&nested);
        assert!(closer.join().is_ok());
    });
}

/// The same for what one of its calls is told.
#[test]
fn who_blocks_a_loop_hears_what_a_call_of_it_is_told() {
    model(|| {
        let (closing, is_told) = (Arc::new(Closing::default()), Arc::new(AtomicBool::new(false)));
        let teller = {
            let (closing, is_told) = (Arc::clone(&closing), Arc::clone(&is_told));
            thread::spawn(move || {
                is_told.store(true, Relaxed);
                closing.rouse_all();
            })
        };
        let nested = Arc::new(Blocking(Slot::new()));
        closing.add(&nested);
        while !is_told.load(Relaxed) {
            nested.0.wait(None);
        }
        closing.remove(&nested);
        assert!(teller.join().is_ok());
    });
}
