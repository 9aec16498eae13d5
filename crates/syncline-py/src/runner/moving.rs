//! Calls that were sent to a runner whose thread then came to wait for whoever has sent them: they run on another one.
//!
//! Placement sends no call to a loop whose thread waits for the caller. But sync code on that loop may only be about to wait. The
//! call lies in the mailbox then, and its turn would never come. So whoever finds that takes it out, and lays it into the mailbox
//! of a runner to which it would have been sent had it been placed by now.
//!
//! Invariants:
//! 1. Who sends a call notes its origin before it looks whether the runner's thread waits; who waits has its edge before it
//!    looks for such calls. So one of the two sees the other.
//! 2. Where the calls go is known before they are taken out, and only who has taken one out lays it down again.
//! 3. A call that is being cancelled is told so by whoever sees last both that and where it went.

use super::state::{Job, Runner};
use crate::call::home::Home;
use crate::call::state::Call;
use crate::call::taker::Taker;
use crate::python::errors;
use crate::python::process;
use crate::task::session::Session;
use crate::task::start::RunIn;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::Instant;
use syncline_core::closing::Rouse;
use syncline_core::mailbox::SendError;
use syncline_core::sync::{Mutex, lock, replace};
use syncline_core::waits::{Awaiting, Node};
use syncline_core::weak_list::WeakList;

/// Who places calls.
pub trait Places: Send + Sync {
    /// A runner for what was sent to this one, whose thread waits.
    fn runner_instead_of(self: Arc<Self>, py: Python<'_>, runner: &Arc<Runner>) -> PyResult<Arc<Runner>>;
}

/// Whose code has sent a call, where that may be waited for; and where the call went from there.
pub struct Origin {
    nodes: [Option<Arc<Node>>; 2],
    places: Weak<dyn Places>,
    /// The thread of the first node waits for the call, with an edge.
    blocks: AtomicBool,
    moved: Mutex<Option<Moved>>,
    /// Calls that end with what this one does.
    followers: WeakList<Call>,
}

struct Moved {
    to: Arc<Runner>,
    _awaiting: Vec<Awaiting>,
}

impl Origin {
    fn go_to(&self, call: &Arc<Call>, from: Option<&Runner>, to: &Arc<Runner>) {
        let awaiting = self.nodes.iter().flatten().map(|node| node.awaits(&to.node)).collect();
        let before = replace(&self.moved, Some(Moved { to: Arc::clone(to), _awaiting: awaiting }));
        drop(before);
        if let (true, Some(node), Some(from)) = (self.blocks.load(SeqCst), &self.nodes[0], from) {
            node.redirect(&from.node, &to.node);
        }
        call.extras().set_home(Home { name: Arc::clone(&to.name), closing: Arc::clone(&to.closing) });
        if !call.taker.is_a_thread() {
            to.told_of_end.add(Arc::downgrade(call));
        }
        if let Taker::Sleeper { .. } = &call.taker {
            // It looks after the other runner from now on.
            Rouse::rouse(&**call);
        }
    }

    fn is_held_up_by(&self, runner: &Runner) -> bool {
        self.nodes.iter().flatten().any(|node| !Arc::ptr_eq(node, &runner.node) && runner.node.leads_to(node))
    }
}

fn origin_of(call: &Call) -> Option<&Origin> {
    call.known_extras()?.origin()?.downcast_ref()
}

/// Notes whose code sends the call, if any thread or loop may wait for that.
pub fn note_origin(call: &Call, nodes: [Option<Arc<Node>>; 2], places: Weak<dyn Places>) {
    if nodes.iter().any(Option::is_some) && origin_of(call).is_none() {
        call.extras().set_origin(Box::new(Origin {
            nodes,
            places,
            blocks: AtomicBool::new(false),
            moved: Mutex::default(),
            followers: WeakList::default(),
        }));
    }
}

/// The thread of the loop from which the call was sent waits for it from now on, and has an edge to that runner's node.
pub fn note_blocking(call: &Call, here: &Arc<Node>, at: &Runner) {
    let is_sender = |origin: &&Origin| origin.nodes[0].as_ref().is_some_and(|node| Arc::ptr_eq(node, here));
    let Some(origin) = origin_of(call).filter(is_sender) else { return };
    origin.blocks.store(true, SeqCst);
    // It may have gone before that.
    if let Some(moved) = moved_to(call) {
        here.redirect(&at.node, &moved.node);
    }
}

/// Whether the thread of that node's loop waits for the call.
pub fn is_blocking(call: &Call, node: &Arc<Node>) -> bool {
    let blocked =
        origin_of(call).filter(|origin| origin.blocks.load(SeqCst)).and_then(|origin| origin.nodes[0].as_ref());
    blocked.is_some_and(|blocked| Arc::ptr_eq(blocked, node)) && !call.is_abandoned()
}

/// It waits no more, though the call may not have ended.
pub fn note_unblocked(call: &Call) {
    origin_of(call).into_iter().for_each(|origin| origin.blocks.store(false, SeqCst));
}

/// The follower, whose origin is noted, ends with something that the other call does: where that goes, it goes, too.
pub fn follow(call: &Call, follower: &Arc<Call>) {
    let Some(origin) = origin_of(call) else { return };
    origin.followers.add(Arc::downgrade(follower));
    if let (Some(to), Some(own)) = (moved_to(call), origin_of(follower)) {
        own.go_to(follower, None, &to);
    }
}

/// The runner that the call went to, if it is not the one that it was sent to.
pub fn moved_to(call: &Call) -> Option<Arc<Runner>> {
    lock(&origin_of(call)?.moved).as_ref().map(|moved| Arc::clone(&moved.to))
}

/// The runner of a session that was to be on this one.
pub fn home_of<'a>(session: &'a Session, first: &'a Arc<Runner>) -> &'a Arc<Runner> {
    session.home().and_then(|home| home.downcast_ref()).unwrap_or(first)
}

fn is_movable(job: &Job, runner: &Runner) -> bool {
    match job {
        // What nobody waits for any more will not begin, or must.
        Job::Start(call, ..) if call.is_abandoned() => false,
        Job::Start(_, _, RunIn::Session { session, .. }) if !session.is_movable() => false,
        Job::Start(call, ..) => origin_of(call).is_some_and(|origin| origin.is_held_up_by(runner)),
        Job::Cancel(_) | Job::Arrival(_) | Job::Do(_) | Job::Stop => false,
    }
}

impl Runner {
    /// As this runner's thread waits: has calls that lie here, and for which it may be waiting, run elsewhere. Returns how many
    /// there were.
    pub fn move_calls(self: &Arc<Self>, py: Python<'_>) -> PyResult<usize> {
        if self.attached.is_some() || !self.node.is_waiting() || process::is_exiting() {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            let places = self.mailbox.find(|job| match job {
                Job::Start(call, ..) if is_movable(job, self) => origin_of(call)?.places.upgrade(),
                _ => None,
            });
            let Some(places) = places else { return Ok(count) };
            // By 2.
            let to = places.runner_instead_of(py, self)?;
            for job in self.mailbox.take_back(|job| is_movable(job, self)) {
                if let Job::Start(call, target, run_in) = job {
                    count += 1;
                    self.move_call(py, &to, &call, Job::Start(Arc::clone(&call), target, run_in));
                }
            }
        }
    }

    fn move_call(self: &Arc<Self>, py: Python<'_>, to: &Arc<Self>, call: &Arc<Call>, job: Job) {
        let Some(origin) = origin_of(call) else { return };
        if let Job::Start(_, _, RunIn::Session { session, .. }) = &job {
            session.move_to(py, Box::new(Arc::clone(to)));
        }
        origin.go_to(call, Some(self), to);
        for follower in origin.followers.alive() {
            if let Some(own) = origin_of(&follower) {
                own.go_to(&follower, Some(self), to);
            }
        }
        if let Err(SendError(Job::Start(call, target, _))) = to.post(py, job) {
            target.discard(py);
            call.lose(py, errors::closed_meanwhile(py, &to.name));
        }
        // By 3.
        if call.is_to_be_cancelled(Instant::now()) {
            let _ = to.post(py, Job::Cancel(Arc::clone(call)));
        }
    }
}
