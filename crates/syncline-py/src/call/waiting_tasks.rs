//! Which task waits for what, where a bridge is visible: for a call, or for a worker whose function may wait for calls.
//!
//! It is kept here, and not with the call or the work, as those of other bridges are to pay nothing.

use super::state::Call;
use crate::python::signals;
use crate::switch::stepper::current_task;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use syncline_core::sync::{Mutex, lock};

type WeakAny = Weak<dyn Any + Send + Sync>;

struct Noted {
    /// By address, which stays taken as long as this has a weak reference.
    tasks: BTreeMap<usize, NotedTask>,
    /// The address that was looked at last.
    looked_at: usize,
}

type NotedTask = (WeakAny, Py<PyWeakrefReference>);

/// So many are looked at, in turns, whenever one comes, and dropped if they have ended. With two, no more than those
/// that wait are kept beside them, and what a crowd has left goes as others come.
const LOOKS: usize = 2;
static WAITING: Mutex<Noted> = Mutex::new(Noted { tasks: BTreeMap::new(), looked_at: 0 });
/// Whether a task was ever noted.
static IS_USED: AtomicBool = AtomicBool::new(false);

impl Noted {
    /// Looks at the next one, and takes it out if it has ended.
    fn take_ended(&mut self) -> Option<NotedTask> {
        let next = self.tasks.range((Excluded(self.looked_at), Unbounded)).next();
        let Some((&address, (awaited, _))) = next else {
            self.looked_at = 0;
            return None;
        };
        self.looked_at = address;
        let has_ended = awaited.strong_count() == 0;
        has_ended.then(|| self.tasks.remove(&address)).flatten()
    }
}

fn address(of: &WeakAny) -> usize {
    of.as_ptr().cast::<()>().addr()
}

/// The task that runs in this thread, if there is one, waits for this.
pub fn note(py: Python<'_>, awaited: WeakAny) -> PyResult<()> {
    let Some(task) = current_task(py).filter(|task| !task.is_none()) else { return Ok(()) };
    let task = PyWeakrefReference::new(&task)?.unbind();
    IS_USED.store(true, Relaxed);
    let mut over = Vec::new();
    {
        let mut waiting = lock(&WAITING);
        over.extend(waiting.tasks.insert(address(&awaited), (awaited, task)));
        for _ in 0..LOOKS {
            over.extend(waiting.take_ended());
        }
    }
    drop(over);
    Ok(())
}

/// The same for a call. It is for tools alone, so the call is made even if that fails.
pub fn note_call(py: Python<'_>, call: &Arc<Call>) {
    let known: Weak<Call> = Arc::downgrade(call);
    if let Err(error) = note(py, known) {
        signals::keep_unless_exception(py, error);
    }
}

/// Nobody waits for the call any more.
pub fn forget(call: &Arc<Call>) {
    let known = lock(&WAITING).tasks.remove(&Arc::as_ptr(call).cast::<()>().addr());
    drop(known);
}

/// The task that waits for the call, itself or by the worker that it has sent.
pub fn of(py: Python<'_>, call: &Arc<Call>) -> Option<Py<PyAny>> {
    if !IS_USED.load(Relaxed) {
        return None;
    }
    let task = {
        let call_address = Arc::as_ptr(call).cast::<()>().addr();
        let worker = call.waiter().map(|job| Arc::as_ptr(&job).cast::<()>().addr());
        let waiting = lock(&WAITING);
        let known = waiting.tasks.get(&call_address).or_else(|| waiting.tasks.get(&worker?))?;
        known.1.clone_ref(py)
    };
    task.bind(py).upgrade().map(Bound::unbind)
}
