//! How many worker threads may be busy at once: the limiter that users see, for any number of loops.
//!
//! A call that finds no token is not sent back to its loop when one comes free: whoever gives a token back hands the call
//! to a worker at once. A task that waits for a token by itself is told through its loop's box.
//!
//! Invariants:
//! 1. A forked child starts with all tokens: the parent's borrowers are not there. 2. A token that was handed to a task
//!    which no longer waits goes on to the next.

use crate::errors;
use crate::home::{Arrival, Home, Item};
use crate::names;
use crate::pending::{Begun, Bell, Errand, Pending};
use crate::process;
use crate::surroundings::is_in_trio_task;
use crate::work::Work;
use crate::workers;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::limiter::{Counts, Limiter, Refused};
use syncline_core::sync::{Mutex, lock};

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Work(u64),
    /// By address.
    Object(usize),
}

enum Borrower {
    Work(Arc<Work>),
    Object(Py<PyAny>),
}

pub enum Waiter {
    Work(Arc<Work>),
    Turn(Arc<Turn>),
}

type Tokens = Limiter<Key, Borrower, Waiter>;

pub struct Limits {
    tokens: Mutex<(u32, Arc<Tokens>)>,
}

impl Limits {
    pub fn new(total: Option<usize>) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::new((process::epoch(), Arc::new(Tokens::new(total)))) })
    }

    fn tokens(&self) -> Arc<Tokens> {
        let mut known = lock(&self.tokens);
        if known.0 != process::epoch() {
            // By 1.
            let total = known.1.counts().total;
            let parents = std::mem::replace(&mut *known, (process::epoch(), Arc::new(Tokens::new(total))));
            std::mem::forget(parents);
        }
        Arc::clone(&known.1)
    }

    /// A token for a call, if there is one.
    pub fn take_for(&self, work: &Arc<Work>) -> bool {
        self.tokens().acquire_nowait(Key::Work(work.number), Borrower::Work(Arc::clone(work))).is_ok()
    }

    /// True if the call is in the queue, false if it got a token after all.
    pub fn queue_for(&self, work: &Arc<Work>) -> bool {
        let waiter = || Waiter::Work(Arc::clone(work));
        let got = self.tokens().acquire(Key::Work(work.number), Borrower::Work(Arc::clone(work)), waiter);
        !matches!(got, Ok(true))
    }

    pub fn is_queued(&self, number: u64) -> bool {
        self.tokens().waits(&Key::Work(number))
    }

    /// Whether the task with this address holds a token itself.
    pub fn is_borrowed_by(&self, task: usize) -> bool {
        self.tokens().is_held(&Key::Object(task))
    }

    pub fn leave_queue(&self, number: u64) -> bool {
        self.tokens().withdraw(&Key::Work(number)).is_some()
    }

    /// Returns those who have a token now.
    pub fn give_back(&self, _py: Python<'_>, number: u64) -> Vec<Waiter> {
        self.tokens().release(&Key::Work(number)).map_or_else(Vec::new, |(_, waiters)| waiters)
    }

    pub fn counts(&self) -> Counts {
        self.tokens().counts()
    }

    /// Whether none of its tokens can ever come back.
    pub fn is_stuck(&self, seen: &mut Vec<u64>) -> bool {
        let tokens = self.tokens();
        let borrowers = tokens.borrowers(|borrower| match borrower {
            Borrower::Work(work) => Ok(Arc::clone(work)),
            Borrower::Object(task) => Err(task.as_ptr() as usize),
        });
        // A total of 0 is somebody's way to hold calls up, and can be raised.
        !borrowers.is_empty()
            && borrowers.into_iter().all(|borrower| match borrower {
                Ok(work) => work.is_stuck(seen),
                Err(task) => {
                    tokens.some_waiter(|waiter| matches!(waiter, Waiter::Work(work) if work.task.load(Relaxed) == task))
                }
            })
    }

    /// All tokens are held by workers that wait for coroutines, and nothing has moved for long: a call that comes from
    /// one of those goes beyond the limit. (That such a coroutine waits for the call can't be known for sure, as tasks
    /// of its own may be in between; else there would be an error.)
    pub fn relieve(&self, py: Python<'_>) {
        let tokens = self.tokens();
        let all_wait = tokens.borrowers(|borrower| matches!(borrower, Borrower::Work(work) if work.is_waiting()));
        if !all_wait.into_iter().all(|waits| waits) {
            return;
        }
        let fits = |waiter: &Waiter| matches!(waiter, Waiter::Work(work) if work.comes_from_worker.load(Relaxed));
        if let Some(waiter) = tokens.exceed(fits) {
            let message = "all worker threads wait for coroutines that seem to wait for further workers; one is used \
                           beyond the limiter's total: raise thread_limiter().total_tokens, or give the inner calls a \
                           limiter of their own: ThreadLimiter(n).to_thread(fn, ...)";
            names::log(py, "warning", message, None);
            workers::serve(py, vec![waiter]);
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

/// A task that waits for a token, on its own behalf or another's.
pub struct Turn {
    me: Weak<Turn>,
    limits: Arc<Limits>,
    borrower: Mutex<Option<Py<PyAny>>>,
    key: OnceLock<Key>,
    bell: Bell,
    home: OnceLock<Arc<Home>>,
    given_up: AtomicBool,
}

impl Turn {
    fn new(limits: &Arc<Limits>, borrower: Option<Py<PyAny>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            limits: Arc::clone(limits),
            borrower: Mutex::new(borrower),
            key: OnceLock::new(),
            bell: Bell::default(),
            home: OnceLock::new(),
            given_up: AtomicBool::new(false),
        })
    }

    /// It has a token now; from any thread.
    pub fn tell(&self, py: Python<'_>) {
        if let (Some(home), Some(me)) = (self.home.get(), self.me.upgrade()) {
            home.deliver(py, Item::Arrival(me));
        }
    }

    /// By 2.
    fn pass_on(&self, py: Python<'_>) {
        let released = self.key.get().and_then(|key| self.limits.tokens().release(key));
        if let Some((borrower, waiters)) = released {
            drop(borrower);
            workers::serve(py, waiters);
        }
    }
}

impl Errand for Turn {
    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn begin(&self, py: Python<'_>, home: Arc<Home>) -> PyResult<Begun> {
        let known = lock(&self.borrower).take();
        let borrower = match known {
            Some(borrower) => borrower,
            None => current_borrower(py, home.is_in_trio())?,
        };
        let key = key_of(borrower.bind(py));
        let _ = self.key.set(key.clone());
        let _ = self.home.set(home);
        let Some(me) = self.me.upgrade() else { return Ok(Begun::Waits) };
        match self.limits.tokens().acquire(key, Borrower::Object(borrower), || Waiter::Turn(me)) {
            Ok(true) => Ok(Begun::Over),
            Ok(false) => Ok(Begun::Waits),
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
}

impl Arrival for Turn {
    fn arrive(&self, py: Python<'_>) {
        // Given up since: `cancel` has found it out of the queue, and passed its token on.
        if !self.given_up.load(SeqCst) {
            self.bell.ring(py);
        }
    }

    fn be_lost(&self, py: Python<'_>) {
        if !self.given_up.swap(true, SeqCst) {
            self.pass_on(py);
        }
    }
}

fn key_of(borrower: &Bound<'_, PyAny>) -> Key {
    Key::Object(borrower.as_ptr() as usize)
}

fn current_borrower(py: Python<'_>, in_trio: bool) -> PyResult<Py<PyAny>> {
    let task = if in_trio { names::trio_task(py)?.call0()? } else { names::current_task(py)?.call0()? };
    if task.is_none() {
        return Err(PyRuntimeError::new_err(
            "no task runs here that could borrow a token; use the methods that name a borrower: \
             limiter.acquire_on_behalf_of_nowait(borrower)",
        ));
    }
    Ok(task.unbind())
}

fn holds_one_already() -> PyErr {
    PyRuntimeError::new_err(
        "this borrower holds one of the limiter's tokens already; name another: limiter.acquire_on_behalf_of(borrower)",
    )
}

/// As anyio: an int, or `math.inf`.
fn total_of(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if let Ok(number) = value.extract::<f64>()
        && number == f64::INFINITY
    {
        return Ok(None);
    }
    let number = value.extract::<i64>().map_err(|_| {
        let kind = errors::type_name(value);
        PyTypeError::new_err(format!("total_tokens must be an int or math.inf, not {kind}"))
    })?;
    let total = usize::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("total_tokens must be 0 or more, not {number}")))?;
    Ok(Some(total))
}

/// How many worker threads may be busy at once.
#[pyclass(frozen, subclass, weakref, module = "syncline._core")]
pub struct LimiterBase {
    limits: Arc<Limits>,
}

impl LimiterBase {
    fn here(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        current_borrower(py, is_in_trio_task(py)?)
    }

    fn turn(&self, borrower: Option<Py<PyAny>>) -> Pending {
        Pending::new(Turn::new(&self.limits, borrower))
    }
}

#[pymethods]
impl LimiterBase {
    #[new]
    #[pyo3(signature = (total_tokens))]
    fn new(total_tokens: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { limits: Limits::new(total_of(total_tokens)?) })
    }

    /// How many may be borrowed at once; can be set at any time. `math.inf` is no limit.
    #[getter]
    fn total_tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.limits.counts().total {
            Some(total) => Ok(total.into_pyobject(py)?.into_any().unbind()),
            None => Ok(f64::INFINITY.into_pyobject(py)?.into_any().unbind()),
        }
    }

    #[setter]
    fn set_total_tokens(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let served = self.limits.tokens().set_total(total_of(value)?);
        workers::serve(py, served);
        Ok(())
    }

    /// How many are borrowed.
    #[getter]
    fn borrowed_tokens(&self) -> usize {
        self.limits.counts().borrowed
    }

    /// How many can be borrowed before somebody has to wait.
    #[getter]
    fn available_tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let counts = self.limits.counts();
        match counts.total {
            // Below zero where the total was lowered meanwhile.
            Some(total) => {
                let available = i128::try_from(total).unwrap_or(i128::MAX) - counts.borrowed as i128;
                Ok(available.into_pyobject(py)?.into_any().unbind())
            }
            None => Ok(f64::INFINITY.into_pyobject(py)?.into_any().unbind()),
        }
    }

    /// The counts, the borrowers and how many wait, at one moment.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tokens = self.limits.tokens();
        let borrowers = tokens.borrowers(|borrower| match borrower {
            Borrower::Work(work) => Err(Arc::clone(work)),
            Borrower::Object(object) => Ok(object.clone_ref(py)),
        });
        let shown = borrowers.into_iter().map(|borrower| borrower.unwrap_or_else(|work| work.shown(py)));
        let shown = PyTuple::new(py, shown.collect::<Vec<_>>())?;
        let waiting = tokens.counts().waiting;
        names::limiter_statistics(py)?.call1((shown.len(), self.total_tokens(py)?, shown, waiting))
    }

    /// Takes a token for the current task, or raises `WouldBlock`.
    fn acquire_nowait(&self, py: Python<'_>) -> PyResult<()> {
        let borrower = self.here(py)?;
        self.acquire_on_behalf_of_nowait(py, borrower)
    }

    /// Takes a token for `borrower`, or raises `WouldBlock`.
    fn acquire_on_behalf_of_nowait(&self, py: Python<'_>, borrower: Py<PyAny>) -> PyResult<()> {
        let key = key_of(borrower.bind(py));
        match self.limits.tokens().acquire_nowait(key, Borrower::Object(borrower)) {
            Ok(()) => Ok(()),
            Err(Refused::HasOne(_)) => Err(holds_one_already()),
            Err(Refused::NoneLeft(_)) => Err(PyErr::from_value(names::would_block(py)?.call0()?)),
        }
    }

    fn _acquire(&self) -> Pending {
        self.turn(None)
    }

    fn _acquire_on_behalf_of(&self, borrower: Py<PyAny>) -> Pending {
        self.turn(Some(borrower))
    }

    /// Gives the current task's token back.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let borrower = self.here(py)?;
        self.release_on_behalf_of(py, &borrower.into_bound(py))
    }

    /// Gives the token of `borrower` back.
    fn release_on_behalf_of(&self, py: Python<'_>, borrower: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((held, waiters)) = self.limits.tokens().release(&key_of(borrower)) else {
            return Err(PyRuntimeError::new_err("this borrower holds none of the limiter's tokens"));
        };
        drop(held);
        workers::serve(py, waiters);
        Ok(())
    }

    /// The call of `fn` in a worker, as an awaitable.
    #[pyo3(signature = (r#fn, args, kwargs))]
    fn _call(&self, r#fn: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Pending {
        Pending::new(Work::new(&self.limits, r#fn, args, kwargs))
    }

    fn __repr__(&self) -> String {
        let counts = self.limits.counts();
        let total = counts.total.map_or_else(|| "inf".to_owned(), |total| total.to_string());
        format!("<syncline.ThreadLimiter, {} of {total} tokens borrowed>", counts.borrowed)
    }
}
