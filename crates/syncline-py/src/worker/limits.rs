//! How many worker threads may be busy at once, for any number of loops.
//!
//! A call that finds no token queues. Whoever gives a token back hands the next call to a worker at once, without a way
//! round by that call's loop. A task that waits for a token of its own is told through its loop's inbox.
//!
//! Invariants:
//! 1. A forked child starts with all tokens free: the parent's borrowers do not exist there.
//! 2. A token that was given to a task which does not wait any more goes on to the next in the queue.

use super::awaiting::{Operation, SeenOperation, Started, Waker};
use super::inbox::Inbox;
use super::workers::{self, WorkerJob, Works};
use crate::python::errors;
use crate::python::log;
use crate::python::names;
use crate::python::per_process::{PerProcess, PerProcessPart, inherited};
use crate::runner::arrival::Arrival;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::limiter::{Counts, Limiter};
use syncline_core::sync::{Mutex, lock};
use syncline_core::weak_list::WeakVec;

/// A call in a worker thread, as its limiter knows it.
pub trait Claim: Send + Sync {
    /// A number that no other call has.
    fn number(&self) -> u64;
    /// Whether it can never end. That is so if it waits, directly or through other calls, for a token of a limiter all
    /// of whose tokens are held by calls that can never end either. `seen` are the numbers of those that were asked
    /// already.
    fn is_stuck(&self, seen: &mut Vec<u64>) -> bool;
    /// Whether its function waits for a coroutine.
    fn is_waiting(&self) -> bool;
    /// Whether it was asked for, directly or not, by what a worker called; known once it has to queue.
    fn comes_from_worker(&self) -> bool;
    /// The task that waits for it, by address; known once it has to queue.
    fn task(&self) -> usize;
    /// The function that runs, or is to run; for show.
    fn shown(&self, py: Python<'_>) -> Py<PyAny>;
    fn job(self: Arc<Self>) -> Arc<dyn WorkerJob>;
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenKey {
    Claim(u64),
    /// The borrower's address.
    Object(usize),
}

pub enum Borrower {
    Claim(Arc<dyn Claim>),
    Object(Py<PyAny>),
}

pub enum InQueue {
    Claim(Arc<dyn Claim>),
    Turn(Arc<Turn>),
}

/// All limiters, for reports.
static ALL: PerProcess<WeakVec<Limits>> = PerProcess::new();

pub type Tokens = Limiter<TokenKey, Borrower, InQueue>;

pub struct Limits {
    tokens: PerProcessPart<Tokens>,
    /// For calls that belong to one thread: its pool.
    own: Option<PerProcessPart<Works>>,
}

impl Limits {
    pub fn new(total: Option<usize>) -> Arc<Self> {
        let made = Arc::new(Self { tokens: PerProcessPart::new(Arc::new(Tokens::new(total))), own: None });
        lock(ALL.get(inherited)).add(Arc::downgrade(&made));
        made
    }

    /// Tells limiters apart, in reports.
    pub fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// For calls that all run in one thread.
    pub fn of_one_thread() -> Arc<Self> {
        let tokens = PerProcessPart::new(Arc::new(Tokens::new(Some(1))));
        Arc::new(Self { tokens, own: Some(PerProcessPart::new(workers::pool_of_one())) })
    }

    pub fn own_pool(&self) -> Option<Arc<Works>> {
        Some(self.own.as_ref()?.get(|_| workers::pool_of_one()))
    }

    pub fn tokens(&self) -> Arc<Tokens> {
        // By 1.
        self.tokens.get(|parents| Arc::new(Tokens::new(parents.counts().total)))
    }

    /// A token for a call, if there is one.
    pub fn take_for(&self, claim: Arc<dyn Claim>) -> bool {
        self.tokens().acquire_nowait(TokenKey::Claim(claim.number()), Borrower::Claim(claim)).is_ok()
    }

    /// True if the call is in the queue, false if it got a token after all.
    pub fn queue_for(&self, claim: Arc<dyn Claim>) -> bool {
        let in_queue = || InQueue::Claim(Arc::clone(&claim));
        let got = self.tokens().acquire(TokenKey::Claim(claim.number()), Borrower::Claim(Arc::clone(&claim)), in_queue);
        !matches!(got, Ok(true))
    }

    pub fn is_queued(&self, number: u64) -> bool {
        self.tokens().waits(&TokenKey::Claim(number))
    }

    /// Whether the task with this address holds a token itself.
    pub fn is_borrowed_by(&self, task: usize) -> bool {
        self.tokens().is_held(&TokenKey::Object(task))
    }

    pub fn leave_queue(&self, number: u64) -> bool {
        self.tokens().withdraw(&TokenKey::Claim(number)).is_some()
    }

    /// Gives a call's token back. Returns those from the queue who have a token now: `serve` them.
    pub fn give_back(&self, _py: Python<'_>, number: u64) -> Vec<InQueue> {
        self.tokens().release(&TokenKey::Claim(number)).map_or_else(Vec::new, |(_, waiters)| waiters)
    }

    pub fn counts(&self) -> Counts {
        self.tokens().counts()
    }

    /// Whether none of its tokens can ever come back.
    pub fn is_stuck(&self, seen: &mut Vec<u64>) -> bool {
        let tokens = self.tokens();
        let borrowers = tokens.borrowers(|borrower| match borrower {
            Borrower::Claim(claim) => Ok(Arc::clone(claim)),
            Borrower::Object(task) => Err(task.as_ptr() as usize),
        });
        // Without borrowers nobody is stuck: a total of 0 is a way to hold calls up for a while, until somebody raises
        // it.
        !borrowers.is_empty()
            && borrowers.into_iter().all(|borrower| match borrower {
                Ok(claim) => claim.is_stuck(seen),
                Err(task) => {
                    tokens.some_waiter(|waiter| matches!(waiter, InQueue::Claim(claim) if claim.task() == task))
                }
            })
    }

    /// Lets one call go beyond the limit, if all tokens are held by workers that wait for coroutines: the first in the
    /// queue that comes from a worker. Called when no token has changed hands for a while. The coroutines probably wait
    /// for calls in the queue. That can't be known for sure, as there may be tasks in between; so this is no
    /// DeadlockError.
    pub fn relieve(&self, py: Python<'_>) {
        let tokens = self.tokens();
        let all_wait = tokens.borrowers(|borrower| matches!(borrower, Borrower::Claim(claim) if claim.is_waiting()));
        if !all_wait.into_iter().all(|waits| waits) {
            return;
        }
        let fits = |waiter: &InQueue| matches!(waiter, InQueue::Claim(claim) if claim.comes_from_worker());
        if let Some(waiter) = tokens.exceed(fits) {
            let message = "all worker threads wait for coroutines that seem to wait for further workers; one is used \
                           beyond the limiter's total: raise thread_limiter().total_tokens, or give the inner calls a \
                           limiter of their own: ThreadLimiter(n).to_thread(fn, ...)";
            log::log(py, "warning", message, None);
            serve(py, vec![waiter]);
        }
    }

    pub fn deadlock(&self, py: Python<'_>) -> PyErr {
        let borrowed = self.counts().borrowed;
        errors::deadlock(
            py,
            format!(
                "this call would wait for a worker thread for ever: all {borrowed} tokens of its limiter are held by calls \
                 that wait for this one (in a worker that waits for a coroutine or runs a loop of its own, or in a task \
                 that holds a token itself); raise the limiter's total_tokens, or give the inner call a limiter of its \
                 own: ThreadLimiter(n).to_thread(fn, ...)"
            ),
        )
    }
}

/// Lets those go on who have got a token: calls in a worker, tasks on their loop.
pub fn serve(py: Python<'_>, served: Vec<InQueue>) {
    for each in served {
        match each {
            InQueue::Claim(claim) => workers::submit(py, &claim.job()),
            InQueue::Turn(turn) => turn.tell(py),
        }
    }
}

/// A task that waits for a token, on its own behalf or another's.
pub struct Turn {
    me: Weak<Turn>,
    limits: Arc<Limits>,
    borrower: Mutex<Option<Py<PyAny>>>,
    key: OnceLock<TokenKey>,
    waker: Waker,
    inbox: OnceLock<Arc<Inbox>>,
    given_up: AtomicBool,
}

impl Turn {
    pub fn new(limits: &Arc<Limits>, borrower: Option<Py<PyAny>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            limits: Arc::clone(limits),
            borrower: Mutex::new(borrower),
            key: OnceLock::new(),
            waker: Waker::default(),
            inbox: OnceLock::new(),
            given_up: AtomicBool::new(false),
        })
    }

    /// It has a token now; from any thread.
    pub fn tell(&self, py: Python<'_>) {
        if let (Some(inbox), Some(me)) = (self.inbox.get(), self.me.upgrade()) {
            inbox.deliver(py, me);
        }
    }

    /// Gives a token back that nobody waits for any more (by 2).
    fn pass_on(&self, py: Python<'_>) {
        let released = self.key.get().and_then(|key| self.limits.tokens().release(key));
        if let Some((borrower, waiters)) = released {
            drop(borrower);
            serve(py, waiters);
        }
    }
}

impl Operation for Turn {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started> {
        let known = lock(&self.borrower).take();
        let borrower = match known {
            Some(borrower) => borrower,
            None => current_borrower(py, inbox.is_in_trio())?,
        };
        let key = key_of(borrower.bind(py));
        let _ = self.key.set(key.clone());
        let _ = self.inbox.set(inbox);
        let Some(me) = self.me.upgrade() else { return Ok(Started::Waits) };
        match self.limits.tokens().acquire(key, Borrower::Object(borrower), || InQueue::Turn(me)) {
            Ok(true) => Ok(Started::Over),
            Ok(false) => Ok(Started::Waits),
            Err(_) => Err(holds_one_already()),
        }
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }

    fn cancel(&self, py: Python<'_>) {
        self.given_up.store(true, SeqCst);
        let withdrawn = self.key.get().and_then(|key| self.limits.tokens().withdraw(key));
        if withdrawn.is_none() {
            self.pass_on(py);
        }
    }

    fn seen(&self, _py: Python<'_>) -> SeenOperation {
        SeenOperation::Token("token", self.limits.key())
    }
}

impl Arrival for Turn {
    fn arrive(&self, py: Python<'_>) {
        // If the task has given up, `cancel` has passed the token on already.
        if !self.given_up.load(SeqCst) {
            self.waker.wake(py);
        }
    }

    fn be_lost(&self, py: Python<'_>) {
        self.waker.forget(py);
        if !self.given_up.swap(true, SeqCst) {
            self.pass_on(py);
        }
    }
}

pub fn key_of(borrower: &Bound<'_, PyAny>) -> TokenKey {
    TokenKey::Object(borrower.as_ptr() as usize)
}

pub fn current_borrower(py: Python<'_>, in_trio: bool) -> PyResult<Py<PyAny>> {
    let task = if in_trio { names::trio_task(py)?.call0()? } else { names::current_task(py)?.call0()? };
    if task.is_none() {
        return Err(PyRuntimeError::new_err(
            "no task runs here that could borrow a token; use the methods that name a borrower: \
             limiter.acquire_on_behalf_of_nowait(borrower)",
        ));
    }
    Ok(task.unbind())
}

pub fn holds_one_already() -> PyErr {
    PyRuntimeError::new_err(
        "this borrower holds one of the limiter's tokens already; name another: limiter.acquire_on_behalf_of(borrower)",
    )
}

/// A borrower as Python code sees it: the number of a call in a worker thread, or the object.
type SeenBorrower = (Option<u64>, Option<Py<PyAny>>);

fn seen(py: Python<'_>, borrower: &Borrower) -> SeenBorrower {
    match borrower {
        Borrower::Claim(claim) => (Some(claim.number()), None),
        Borrower::Object(object) => (None, Some(object.clone_ref(py))),
    }
}

/// A limiter as Python code sees it: its key, its total, those who hold its tokens, and those who wait for one.
type SeenLimits = (usize, Option<usize>, Vec<SeenBorrower>, Vec<SeenBorrower>);

/// All limiters that are in use.
#[pyfunction]
pub fn limiters(py: Python<'_>) -> Vec<SeenLimits> {
    let known = lock(ALL.get(inherited)).alive();
    let seen = known.iter().map(|limits| {
        let tokens = limits.tokens();
        let held = tokens.borrowers(|borrower| seen(py, borrower));
        (limits.key(), tokens.counts().total, held, tokens.queued(|borrower| seen(py, borrower)))
    });
    seen.filter(|(_, _, held, queued)| !held.is_empty() || !queued.is_empty()).collect()
}
