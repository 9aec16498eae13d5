//! Telling a trio run something, by its token, in the main thread, where signal handlers run.
//!
//! `TrioToken.run_sync_soon` holds the run's lock while Python code runs. A handler in the middle of that may make a call
//! which waits for another thread, and that one may have to tell the run something: neither goes on. And on Python
//! 3.14, which looks for signals when the lock is taken and the `with` block has not begun (condition.rs), what a
//! handler raises leaves the lock taken: whoever tells that run something next is stuck for good, the run itself at its
//! end among them. So here the same is done in one go, where no handler runs.

use crate::python::once::intern;
use crate::python::process;
use pyo3::exceptions::PyBlockingIOError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// `token.run_sync_soon(callback, *args, idempotent=...)`.
#[pyfunction]
#[pyo3(signature = (token, callback, *args, idempotent=false))]
pub fn tell_trio(
    token: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    idempotent: bool,
) -> PyResult<()> {
    let py = token.py();
    let _inside = process::step_inside_unless_left(py);
    if process::is_main_thread(py)
        && let Some(queue) = Queue::of(token)
        && queue.add(callback, args, idempotent)?
    {
        return Ok(());
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "idempotent"), idempotent)?;
    let all = PyTuple::new(py, [callback])?.as_sequence().concat(args.as_sequence())?.to_tuple()?;
    token.call_method(intern!(py, "run_sync_soon"), all, Some(&options)).map(drop)
}

/// What a run's token leads to, as long as trio has it where it is now.
struct Queue<'py> {
    queue: Bound<'py, PyAny>,
    lock: Bound<'py, PyAny>,
    jobs: Bound<'py, PyAny>,
    idempotent_jobs: Bound<'py, PyDict>,
    socket: Bound<'py, PyAny>,
}

impl<'py> Queue<'py> {
    fn of(token: &Bound<'py, PyAny>) -> Option<Self> {
        let py = token.py();
        let get = |of: &Bound<'py, PyAny>, name| of.getattr_opt(name).ok().flatten();
        let queue = get(token, intern!(py, "_reentry_queue"))?;
        let wakeup = get(&queue, intern!(py, "wakeup"))?;
        get(&queue, intern!(py, "done"))?;
        Some(Self {
            lock: get(&queue, intern!(py, "lock"))?,
            jobs: get(&queue, intern!(py, "queue"))?,
            idempotent_jobs: get(&queue, intern!(py, "idempotent_queue"))?.cast_into().ok()?,
            socket: get(&wakeup, intern!(py, "write_sock"))?,
            queue,
        })
    }

    /// As `EntryQueue.run_sync_soon`; false if the run has ended. While the lock is held, nothing but functions written
    /// in C is called.
    fn add(&self, callback: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>, idempotent: bool) -> PyResult<bool> {
        let py = callback.py();
        let job = PyTuple::new(py, [callback, args.as_any()])?;
        let byte = PyBytes::new(py, b"\0");
        self.lock.call_method0(intern!(py, "acquire"))?;
        let added = self.add_locked(&job, &byte, idempotent);
        self.lock.call_method0(intern!(py, "release"))?;
        added
    }

    fn add_locked(&self, job: &Bound<'py, PyTuple>, byte: &Bound<'py, PyBytes>, idempotent: bool) -> PyResult<bool> {
        let py = job.py();
        if self.queue.getattr(intern!(py, "done"))?.is_truthy()? {
            return Ok(false);
        }
        if idempotent {
            self.idempotent_jobs.set_item(job, py.None())?;
        } else {
            self.jobs.call_method1(intern!(py, "append"), (job,))?;
        }
        match self.socket.call_method1(intern!(py, "send"), (byte,)) {
            // It is full of bytes that the run has not read, and will.
            Err(error) if error.is_instance_of::<PyBlockingIOError>(py) => Ok(true),
            sent => sent.map(|_| true),
        }
    }
}
