//! The worker threads: real `threading.Thread`s, made on demand, that wait for work detached.
//!
//! Their target is a loop of a few lines in Python (_workers.py), which asks a `Worker` for the next call and tells it
//! what became of that. It is not written in Rust for this reason: before Python 3.14 the ending interpreter kills a
//! daemon thread by unwinding its stack as soon as the thread needs the interpreter, and frames of Rust can't be
//! unwound. A worker may be busy at that moment, and then no frame of ours is below the user's function.
//!
//! Invariants:
//! 1. A worker that waits keeps nothing of the calls that it has made: it has let go of them while attached.
//! 2. Marks and whatever else belongs to a call end with it.
//! 3. Once the exit has come far enough no worker attaches.
//! 4. A forked child has no workers. It leaves the parent's pool alone, whose lock a worker may have held at the fork.

use super::notice::Notice;
use crate::call::outcome::Outcome;
use crate::call::waiter;
use crate::python::context;
use crate::python::errors;
use crate::python::frames;
use crate::python::names;
use crate::python::once::intern;
use crate::python::per_process::PerProcess;
use crate::python::process;
use crate::python::threads;
use crate::runner::state::current_runner;
use pyo3::exceptions::{PyBaseException, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::Cell;
use std::ptr::addr_eq;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};
use syncline_core::pool::{Announcement, Desk, Need, OnItsWay, Pool};
use syncline_core::spin::usable_cores;
use syncline_core::sync::{Mutex, lock, replace, take};

/// A worker thread that was idle for that long ends.
const LONGEST_IDLE: Duration = Duration::from_secs(10);

/// What a worker calls: `run(*args, **kwargs)`.
pub struct Payload {
    pub run: Py<PyAny>,
    pub args: Py<PyTuple>,
    pub kwargs: Py<PyDict>,
}

/// What a worker thread does.
pub trait WorkerJob: Send + Sync {
    /// This thread takes the job. Returns what is to be called, or `None` if nobody wants that any more.
    fn begin(self: Arc<Self>, py: Python<'_>) -> Option<Payload>;
    /// The function has ended, or will never run. Returns a job that this thread may do next, and the notice to send.
    fn finish(&self, py: Python<'_>, outcome: Option<Outcome>) -> (Option<Arc<dyn WorkerJob>>, Option<Notice>);
    /// Does the job in the calling thread, at a time when no thread can be started any more.
    fn run_here(&self, py: Python<'_>);
    /// No worker will ever do the job, as no thread could be started.
    fn fail(&self, py: Python<'_>, error: PyErr);
    /// The pool whose threads do it, if that is not the one for all.
    fn pool(&self) -> Option<Arc<Works>> {
        None
    }
    /// Its number, for reports.
    fn shown_number(&self) -> Option<u64> {
        None
    }
}

pub type Works = Pool<Arc<dyn WorkerJob>>;

/// A pool of one thread, for jobs that belong to one thread. It lives until it is closed.
pub fn pool_of_one() -> Arc<Works> {
    Arc::new(Works::of_one(usable_cores()))
}

/// Has the thread of such a pool end when its jobs are done.
pub fn close(pool: &Works) {
    for summons in pool.close() {
        if let Some(announcement) = summons.deliver() {
            announce(announcement);
        }
    }
}

/// One for each process (by 4).
static POOL: PerProcess<Arc<Works>> = PerProcess::new();
static NEXT_NAME: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether somebody has marked this thread as a worker.
pub fn is_marked() -> bool {
    MARKED.get()
}

/// Marks this thread as a worker, or takes the mark off; returns whether it had one.
pub fn mark(marked: bool) -> bool {
    MARKED.replace(marked)
}

fn pool() -> Arc<Works> {
    Arc::clone(&lock(POOL.get(|_| Arc::new(Works::new(usable_cores())))))
}

/// How many worker threads there are, and how many of them wait for work.
pub fn counts() -> (usize, usize) {
    pool().counts()
}

/// Gives the job to a worker.
pub fn submit(py: Python<'_>, job: &Arc<dyn WorkerJob>) {
    if let Some((OnItsWay::Spins(announcement), _)) = submit_to_come(py, job, false) {
        announce(announcement);
    }
}

/// Gives the job to a worker. If that one spins, or sleeps and this thread `gives_way`, it is not told yet: returns what
/// tells it, and the core that it runs on.
pub fn submit_to_come(py: Python<'_>, job: &Arc<dyn WorkerJob>, gives_way: bool) -> Option<(OnItsWay, u32)> {
    if process::has_left() {
        job.run_here(py);
        return None;
    }
    let pool = job.pool().unwrap_or_else(pool);
    let coming = match pool.submit(Arc::clone(job)) {
        Need::Wake(summons) if gives_way => Some(OnItsWay::Sleeps(summons)),
        Need::Wake(summons) => summons.deliver().map(OnItsWay::Spins),
        need => {
            meet(py, &pool, need, Some(job));
            None
        }
    };
    coming.map(|coming| (coming, pool.worker_cpu()))
}

/// Does what the pool needs: nothing, calling a worker, or starting one. `job` is the job that was just submitted, if
/// one was: if no thread can be started, nobody else may ever come for it.
fn meet(py: Python<'_>, pool: &Arc<Works>, need: Need, job: Option<&Arc<dyn WorkerJob>>) {
    match need {
        Need::Nobody => {}
        Need::Wake(summons) => {
            if let Some(announcement) = summons.deliver() {
                announce(announcement);
            }
        }
        Need::Start => {
            let Err(error) = start(py, pool) else { return };
            let is_mine =
                |queued: &Arc<dyn WorkerJob>| job.is_some_and(|job| addr_eq(Arc::as_ptr(queued), Arc::as_ptr(job)));
            match pool.not_started(is_mine) {
                Some(job) if errors::is_too_late(py, &error) => job.run_here(py),
                Some(job) => job.fail(py, error),
                // Either the job was taken meanwhile, or workers are busy, and look for more when they are done.
                None => {}
            }
        }
    }
}

/// Tells a worker that spins. On a runner's thread that is put off until the thread lets go of the interpreter, which
/// the worker needs.
fn announce(announcement: Announcement) {
    match current_runner().filter(|runner| runner.feeder().spins()) {
        Some(runner) => runner.outbox.announce(announcement),
        None => announcement.make(),
    }
}

fn start(py: Python<'_>, pool: &Arc<Works>) -> PyResult<()> {
    let worker = Worker {
        pool: Arc::clone(pool),
        desk: Desk::new(),
        longest_idle: (!pool.is_of_one()).then_some(LONGEST_IDLE),
        epoch: process::epoch(),
        has_arrived: AtomicBool::new(false),
        current: Mutex::new(None),
        outcome: Mutex::new(None),
    };
    let name = format!("syncline-worker-{}", NEXT_NAME.fetch_add(1, Relaxed));
    threads::start(py, &name, names::work(py)?.clone(), PyTuple::new(py, [worker])?, None).map(drop)
}

/// What a worker thread asks for work.
// No `__traverse__`: its thread keeps it, and it refers to one call at a time.
#[pyclass(frozen, module = "syncline._core")]
pub struct Worker {
    pool: Arc<Works>,
    desk: Arc<Desk>,
    longest_idle: Option<Duration>,
    epoch: u32,
    has_arrived: AtomicBool,
    current: Mutex<Option<Arc<dyn WorkerJob>>>,
    outcome: Mutex<Option<Outcome>>,
}

impl Worker {
    /// Lets go of the last call and of what belongs to it (by 1 and 2). Returns the notice for the loop that waits.
    fn finish(&self, py: Python<'_>) -> Option<Notice> {
        MARKED.set(false);
        drop(waiter::enter(None));
        context::forget_kept(py);
        let (job, outcome) = (take(&self.current)?, take(&self.outcome));
        self.finish_with(py, &*job, outcome)
    }

    fn finish_with(&self, py: Python<'_>, job: &dyn WorkerJob, outcome: Option<Outcome>) -> Option<Notice> {
        let (next, notice) = job.finish(py, outcome);
        if let Some(next) = next {
            // Kept for this thread, which looks for work next: no other has to be woken.
            self.pool.keep(next);
        }
        notice
    }
}

#[pymethods]
impl Worker {
    /// What to call next, as (function, args, kwargs); `None` if this thread is to end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if self.epoch != process::epoch() {
            // The function has forked, and this is the child (by 4).
            std::mem::forget((take(&self.current), take(&self.outcome), waiter::enter(None)));
            return Ok(None);
        }
        frames::serve(py);
        let mut inside = Some(process::step_inside());
        if process::has_left() {
            return Err(PySystemExit::new_err(()));
        }
        if !self.has_arrived.swap(true, Relaxed) {
            self.pool.arrive();
        }
        let mut notice = self.finish(py);
        loop {
            while let Some((job, need)) = self.pool.take() {
                // The last result must not wait for the end of the next call.
                if let Some(notice) = notice.take() {
                    notice.send_now(py);
                }
                meet(py, &self.pool, need, None);
                if let Some(payload) = Arc::clone(&job).begin(py) {
                    drop(replace(&self.current, Some(job)));
                    return (payload.run, payload.args, payload.kwargs).into_pyobject(py).map(Some);
                }
                notice = self.finish_with(py, &*job, None);
            }
            if !self.pool.sit_down(&self.desk) {
                if self.pool.end() {
                    if let Some(notice) = notice.take() {
                        notice.send_now(py);
                    }
                    return Ok(None);
                }
                continue;
            }
            // Sent only when this thread has sat down: if the task has more work at once, it finds this thread free.
            let mut prepared = notice.take().and_then(|notice| notice.prepare(py));
            drop(inside.take());
            let (stays, back) = loop {
                let (dozed, back, woken_at) = py.detach(|| {
                    let dozed = match prepared.as_mut().and_then(Notice::send) {
                        Some(unsent) => Err(unsent),
                        None => Ok(self.pool.doze(&self.desk, self.longest_idle)),
                    };
                    (dozed, process::come_back(), Instant::now())
                });
                self.pool.note_attach(woken_at.elapsed());
                drop(prepared.take());
                match dozed {
                    Ok(stays) => break (stays, back),
                    Err(unsent) => unsent.send_now(py),
                }
            };
            inside = Some(back);
            if !stays {
                return Ok(None);
            }
        }
    }

    /// The number of the call that it makes, for reports.
    #[getter]
    fn _job(&self) -> Option<u64> {
        lock(&self.current).as_ref().and_then(|job| job.shown_number())
    }

    fn returned(&self, value: Py<PyAny>) {
        drop(replace(&self.outcome, Some(Outcome::Returned(value))));
    }

    fn raised(&self, py: Python<'_>, error: Bound<'_, PyBaseException>) -> PyResult<()> {
        // The outermost entry of the traceback is the loop in _workers.py, which tells users nothing.
        if let Some(traceback) = errors::traceback_of(&error) {
            errors::set_traceback(&error, &traceback.getattr(intern!(py, "tb_next"))?)?;
        }
        drop(replace(&self.outcome, Some(Outcome::Raised(PyErr::from_value(error.into_any())))));
        Ok(())
    }
}
