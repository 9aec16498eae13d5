//! `to_caller`: a coroutine has a sync function run by the thread that waits for it.
//!
//! Invariants:
//! 1. The function is taken once: by the thread that runs it, or by whoever refuses it, or by a task that stops
//!    waiting.
//! 2. It runs in a copy of its task's context, and what it changes there the task sees.

use super::awaiting::{Operation, Pending, SeenOperation, Started, Waker, result_of};
use super::inbox::Inbox;
use super::watched::{Watching, WorkWatch};
use crate::call::caller::{self, Found};
use crate::call::errands;
use crate::call::outcome::Outcome;
use crate::call::state::Call;
use crate::coroutine::refused;
use crate::python::context::{self, Carried};
use crate::python::errors;
use crate::python::once::intern;
use crate::python::process;
use crate::python::recording;
use crate::runner::arrival::Arrival;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::sync::{Mutex, lock, replace, take};

/// What is to be called, until somebody has taken it.
struct Todo {
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
}

/// The context, its `run`, and what is noted of that.
type InContext = (Py<PyAny>, Py<PyAny>, Option<Box<WorkWatch>>);

struct ToCaller {
    me: Weak<ToCaller>,
    call: Weak<Call>,
    epoch: u32,
    todo: Mutex<Option<Todo>>,
    name: String,
    carried: Mutex<Option<Carried>>,
    context: Mutex<Option<InContext>>,
    outcome: Mutex<Option<Outcome>>,
    waker: Waker,
    inbox: OnceLock<Arc<Inbox>>,
}

/// The call of `fn` by the thread that waits for this coroutine, as an awaitable. None where that is this thread:
/// then the function is to be called at once.
#[pyfunction]
#[pyo3(signature = (r#fn, args, kwargs))]
pub fn errand(
    py: Python<'_>,
    r#fn: &Bound<'_, PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
) -> PyResult<Option<Pending>> {
    refused::async_in_a_thread("to_caller", r#fn)?;
    let call = match caller::find(py)? {
        Found::Call(call) if call.has_a_thread() => call,
        Found::Here => return Ok(None),
        Found::Call(_) | Found::NoCall => return Err(nobody_waits(&errors::name_of(r#fn))),
        Found::Ended => return Err(has_ended(&errors::name_of(r#fn))),
    };
    let name = errors::name_of(r#fn);
    let todo = Todo { function: r#fn.clone().unbind(), args, kwargs };
    Ok(Some(Pending::new(Arc::new_cyclic(|me| ToCaller {
        me: Weak::clone(me),
        call: Arc::downgrade(&call),
        epoch: process::epoch(),
        todo: Mutex::new(Some(todo)),
        name,
        carried: Mutex::default(),
        context: Mutex::default(),
        outcome: Mutex::default(),
        waker: Waker::default(),
        inbox: OnceLock::new(),
    }))))
}

fn nobody_waits(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "to_caller() runs a function in the thread that waits for this coroutine, and no sync code is known to wait for it: it \
         was started by a loop, by submit(), or in a callback (start tasks by create_task() in the coroutine), or fetches \
         items ahead, which nobody may wait for; call {name}(...) directly, or in a worker thread: await to_thread({name}, ...)"
    ))
}

fn has_ended(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "to_caller({name}, ...): the call that this task was started by has ended, and its thread has gone on; await the \
         task in that call, or use await to_thread({name}, ...)"
    ))
}

impl ToCaller {
    fn end_with(&self, py: Python<'_>, outcome: Outcome) {
        drop(replace(&self.outcome, Some(outcome)));
        let Some((inbox, me)) = self.inbox.get().zip(self.me.upgrade()) else { return };
        if self.epoch != process::epoch() {
            // The function has forked, and this is the child, where nobody runs the loop.
        } else if inbox.is_of_this_thread(py) {
            me.waker.wake(py);
        } else {
            inbox.deliver(py, me);
        }
    }
}

impl errands::Errand for ToCaller {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let todo = take(&self.todo);
        let context = take(&self.context);
        let Some((Todo { function, args, kwargs }, (context, run, watch))) = todo.zip(context) else { return Ok(()) };
        let all = std::iter::once(function.into_bound(py)).chain(args.bind(py).iter()).collect::<Vec<_>>();
        let all = PyTuple::new(py, all)?;
        context::move_here(context.bind(py))?;
        watch.as_ref().inspect(|watch| watch.begin());
        let ran = run.bind(py).call(all, kwargs.as_ref().map(|kwargs| kwargs.bind(py)));
        let ran = match watch {
            Some(watch) => watch.end(py, ran),
            None => ran,
        };
        self.end_with(py, errands::outcome_of(py, ran)?);
        Ok(())
    }

    fn refuse(&self, py: Python<'_>) {
        drop((take(&self.todo), take(&self.context)));
        self.end_with(py, Outcome::Raised(has_ended(&self.name)));
    }
}

impl Operation for ToCaller {
    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn begin(&self, py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<Started> {
        let _ = self.inbox.set(inbox);
        let watch = match &*lock(&self.todo) {
            Some(todo) if recording::is_wanted() => Some(todo.function.clone_ref(py)),
            _ => None,
        };
        let watch = watch.map(|function| Watching::begin(function.bind(py), "to_caller")).transpose()?;
        let carried = Carried::fresh(py)?;
        let run = carried.context(py).getattr(py, intern!(py, "run"))?;
        let watch = watch.map(|watch| watch.handed_over(py).map(Box::new)).transpose()?;
        drop(replace(&self.context, Some((carried.context(py), run, watch))));
        drop(replace(&self.carried, Some(carried)));
        if process::is_exiting() && self.call.upgrade().is_some_and(|call| !call.is_driven_by_its_thread()) {
            // Only daemon threads wait for other loops then, and they run no Python code any more.
            return Err(errors::shutting_down());
        }
        let handed_over = match (self.call.upgrade(), self.me.upgrade()) {
            (Some(call), Some(me)) => call.hand_over(py, me),
            _ => false,
        };
        if !handed_over {
            return Err(has_ended(&self.name));
        }
        // If the call has just ended, it was refused already, and nobody wakes the task.
        Ok(if lock(&self.outcome).is_some() { Started::Over } else { Started::Waits })
    }

    fn end(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let carried = take(&self.carried);
        if let Some(carried) = carried {
            carried.write_back(py, false)?;
        }
        result_of(py, take(&self.outcome))
    }

    fn cancel(&self, _py: Python<'_>) {
        drop((take(&self.todo), take(&self.context), take(&self.carried)));
    }

    fn seen(&self, _py: Python<'_>) -> SeenOperation {
        SeenOperation::Errand("errand", self.name.clone())
    }
}

impl Arrival for ToCaller {
    fn arrive(&self, py: Python<'_>) {
        self.waker.wake(py);
    }

    fn be_lost(&self, py: Python<'_>) {
        self.waker.forget(py);
        drop((take(&self.carried), take(&self.outcome)));
    }
}
