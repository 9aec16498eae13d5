//! For whom a task works: the call whose caller is to run its errands.
//!
//! The task of a call is known by what runs in this thread. For the tasks that it starts, and for theirs, a context
//! variable says it. It is set in the call's context when the first of them is made, so that calls that start none pay
//! nothing.

use super::errands::{self, Errand, Errands};
use super::outcome::{Outcome, settle_future};
use super::state::Call;
use super::stepping::stepped_call;
use crate::python::context::{self, Carried, caller_variable};
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::python::surroundings::ASGIREF;
use crate::switch::strand;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};

/// The variable's value. Nothing, if the call is still to come (`expect_call`).
#[pyclass(frozen, module = "syncline._core")]
pub struct Caller(OnceLock<On>);

impl Caller {
    fn new(on: On) -> Self {
        Self(OnceLock::from(on))
    }

    fn call(&self) -> Option<Arc<Call>> {
        if let Some(On::Call(call)) = self.0.get() { call.upgrade() } else { None }
    }
}

#[pymethods]
impl Caller {
    /// Whether the thread still waits.
    fn waits(&self) -> bool {
        self.call().is_some_and(|call| !call.is_settled() && !call.is_abandoned())
    }

    /// Whether it drives the call's loop itself.
    fn drives(&self) -> bool {
        self.call().is_some_and(|call| call.is_driven_by_its_thread())
    }

    /// Has the thread call `fn` and settle the future. False if it does not wait any more.
    fn hand_over(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        r#fn: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Py<PyDict>,
    ) -> bool {
        self.call().is_some_and(|call| call.hand_over(py, Arc::new(ForFuture { future, function: r#fn, args, kwargs })))
    }
}

/// An errand of asgiref's, whose end a `concurrent.futures.Future` tells.
struct ForFuture {
    future: Py<PyAny>,
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Py<PyDict>,
}

impl Errand for ForFuture {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if !future.call_method0(intern!(py, "set_running_or_notify_cancel"))?.is_truthy()? {
            return Ok(());
        }
        let ran = self.function.bind(py).call(self.args.bind(py), Some(self.kwargs.bind(py)));
        settle_future(future, &errands::outcome_of(py, ran)?).map(drop)
    }

    fn refuse(&self, py: Python<'_>) {
        let gone = PyRuntimeError::new_err("the thread that waited for this coroutine has gone on");
        signals::through(py, || settle_future(self.future.bind(py), &Outcome::Raised(gone.clone_ref(py))));
    }
}

/// Before a call, or a step of one, runs in its context, on its loop's thread: asgiref's thread-sensitive code below it
/// is run by the thread that waits, and finds its locals here. A thread whose own loop the call blocks runs none, as
/// asgiref's code refuses to run in such a thread; it goes where it would go without us.
pub fn serve_asgiref(context: &Bound<'_, PyAny>, call: &Arc<Call>) -> PyResult<()> {
    let py = context.py();
    if !call.has_a_thread() || !ASGIREF.is_there(py) {
        return Ok(());
    }
    let caller = (!call.blocks_a_loop()).then(|| Caller::new(On::Call(Arc::downgrade(call))));
    names::asgiref_move_here(py)?.call1((context, caller)).map(drop)
}

#[derive(Clone)]
enum On {
    /// The thread that waits for this call.
    Call(Weak<Call>),
    /// This very thread: the task was started below a nested call that awaits in place.
    Here,
}

/// Who runs the errands of the calling task.
pub enum Found {
    Call(Arc<Call>),
    /// The code that waits is in this thread, below the calling code on the stack: errands are run at once.
    Here,
    /// The task works for no call.
    NoCall,
    /// The call that it worked for has ended.
    Ended,
}

/// Whether the calling code runs below a nested call that awaits in place: then the code that waits for it is in this
/// thread, below it on the stack.
fn is_nested_here(py: Python<'_>) -> bool {
    strand::active().is_some_and(|strand| strand.depth.load(Relaxed) > 0 && strand.can_be_awaited_in(py))
}

pub fn find(py: Python<'_>) -> PyResult<Found> {
    if is_nested_here(py) {
        return Ok(Found::Here);
    }
    if let Some(call) = stepped_call() {
        let refuses = !call.is_settled() && !call.is_abandoned() && call.errands().is_some_and(Errands::is_closed);
        return Ok(if refuses { Found::NoCall } else { Found::Call(call) });
    }
    let Some(value) = caller_variable(py)?.get()? else { return Ok(Found::NoCall) };
    let Ok(caller) = value.cast::<Caller>() else { return Ok(Found::NoCall) };
    Ok(match caller.get().0.get() {
        None => Found::NoCall,
        Some(On::Here) => Found::Here,
        Some(On::Call(call)) => call.upgrade().map_or(Found::Ended, Found::Call),
    })
}

/// Notes for whom a task of trio's will work that has just been made, with its context.
#[pyfunction]
pub fn note_trio_task(context: &Bound<'_, PyAny>) -> PyResult<()> {
    let options = PyDict::new(context.py());
    options.set_item(intern!(context.py(), "context"), context)?;
    note_new_task(context.py(), Some(&options))
}

/// Called before a task is made, with the options that it is made with: notes for whom it will work.
pub fn note_new_task(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    let Some(call) = stepped_call() else { return Ok(()) };
    let on = if is_nested_here(py) { On::Here } else { On::Call(Arc::downgrade(&call)) };
    let context = match options {
        Some(options) => options.get_item(intern!(py, "context"))?.filter(|context| !context.is_none()),
        None => None,
    };
    match context {
        // The user's own. If it is entered at the moment, it is left as it is.
        Some(context) => note_in(&context, on),
        None => note(py, on),
    }
}

fn note(py: Python<'_>, on: On) -> PyResult<()> {
    let variable = caller_variable(py)?;
    let known = variable.get()?;
    let is_known = known.as_ref().and_then(|known| known.cast::<Caller>().ok()).is_some_and(|known| {
        match (known.get().0.get_or_init(|| on.clone()), &on) {
            (On::Call(known), On::Call(call)) => known.ptr_eq(call),
            (On::Here, On::Here) => true,
            _ => false,
        }
    });
    if is_known { Ok(()) } else { variable.set(Bound::new(py, Caller::new(on))?.as_any()) }
}

fn note_in(context: &Bound<'_, PyAny>, on: On) -> PyResult<()> {
    let py = context.py();
    match context::Entered::new(context) {
        Ok(_entered) => note(py, on),
        Err(_) => Ok(()),
    }
}

/// For a call that goes to a loop on which `note_call` is needed: the variable is set before, where that is no change
/// of the call's that its caller would have to look for among all variables.
pub fn expect_call(py: Python<'_>, carried: Carried) -> PyResult<Carried> {
    carried.with_own(caller_variable(py)?, Bound::new(py, Caller(OnceLock::new()))?.as_any())
}

/// For a call on a loop that makes tasks without telling us (`note_new_task`): sets the variable in the call's context,
/// so that all of its tasks have it.
pub fn note_call(context: &Bound<'_, PyAny>, call: &Arc<Call>) -> PyResult<()> {
    note_in(context, On::Call(Arc::downgrade(call)))
}
