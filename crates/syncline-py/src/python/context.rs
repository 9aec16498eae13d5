//! Contextvars: the coroutine sees the caller's, and the caller sees what the coroutine changed.
//!
//! A caller's own `Context` can't be entered by a second thread, so the coroutine runs in a copy; afterwards the
//! changes are written back. A copy takes the same time however many variables there are. Whether any has changed is
//! one comparison of pointers, since a context's variables are one immutable mapping.
//!
//! Invariants:
//! 1. Only what the coroutine changed is written back. For that the context is compared with a copy from before the
//!    call: by identity, never with `==`, which some values (arrays) refuse.
//! 2. While a thread's calls change variables, these calls share one `Context` object, since a `Token` can be reset
//!    only in the object that it was made in. Calls of other threads never use that object.
//! 3. A context that goes to another loop does not say which library runs there. anyio's programs keep that in a
//!    variable, whose value is true of the caller's library only.
//! 4. The variable that says for whom a task works (`caller_variable`) is true of one call only, and goes with no
//!    other.
//! 5. Only a call that has ended passes its context on to the next call. One that was left behind still runs in it.

use crate::python::leaky::Leaky;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::process;
use crate::python::surroundings::{self, ASGIREF};
use crate::python::thread_end::{self, Deferred};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::raw::{c_int, c_void};
use std::thread;
use std::time::{Duration, Instant};

/// The end of a step takes microseconds, once its thread has the interpreter.
const LONGEST_STEP_END: Duration = Duration::from_secs(1);

/// The identity of a context's variables: the address of their mapping. Two are equal if and only if nothing was set
/// or reset in between. To be compared while the contexts live: after that an address may be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Variables(usize);

extern "C" fn note_last(object: *mut ffi::PyObject, last: *mut c_void) -> c_int {
    // SAFETY: `Variables::of` passes a pointer to its own local, which outlives the traversal.
    unsafe { *last.cast::<*mut ffi::PyObject>() = object };
    0
}

impl Variables {
    /// `gc.get_referents(context)[-1]`, without the list: a context refers to the context that it was entered from (while
    /// it is entered) and then to the mapping of its variables.
    pub fn of(context: &Bound<'_, PyAny>) -> Self {
        let mut last: *mut ffi::PyObject = std::ptr::null_mut();
        let class = context.get_type();
        // SAFETY: `class` is alive, and a type object may be read while attached.
        let traverse = unsafe { (*class.as_type_ptr()).tp_traverse };
        if let Some(traverse) = traverse {
            // SAFETY: this is what `gc.get_referents` does; the visitor neither keeps nor changes what it is shown.
            unsafe { traverse(context.as_ptr(), note_last, (&raw mut last).cast()) };
        }
        Self(last.addr())
    }
}

pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached.
    let copy = unsafe { ffi::PyContext_CopyCurrent() };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, copy) }
}

/// Copies the current context, without the name of the library that runs here (by 3).
fn copy_for_elsewhere(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let copy = copy_current(py)?;
    if let Some(variable) = surroundings::library_variable(py)?
        && !variable.call_method1(intern!(py, "get"), (py.None(),))?.is_none()
    {
        copy.call_method1(intern!(py, "run"), (variable.getattr(intern!(py, "set"))?, py.None()))?;
    }
    Ok(copy)
}

pub fn copy_of<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, and only contexts come here.
    let copy = unsafe { ffi::PyContext_Copy(context.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), copy) }
}

/// A context that changed in one call, kept for the thread's next one (by 2).
struct Kept {
    context: Py<PyAny>,
    /// For each variable that was not set in the caller's context before we wrote it back: the token that unsets it.
    unset: Py<PyDict>,
    /// Copies of the caller's context and of this one, from when both had the same variables. As long as neither
    /// context has changed since, they still have, and no variable needs a look.
    in_step: Option<InStep>,
}

struct InStep {
    caller: Py<PyAny>,
    kept: Py<PyAny>,
}

impl Kept {
    /// Gives the kept context the variables of `current`. False if that is impossible, or if a thread has entered it.
    fn follow(&self, current: &Bound<'_, PyAny>) -> PyResult<bool> {
        let context = self.context.bind(current.py());
        let is_in_step = self.in_step.as_ref().is_some_and(|known| {
            Variables::of(known.caller.bind(current.py())) == Variables::of(current)
                && Variables::of(known.kept.bind(current.py())) == Variables::of(context)
        });
        if !is_left_in_time(context) {
            return Ok(false);
        }
        Ok(is_in_step || bring_up_to_date(context, current)?)
    }
}

/// Waits until no thread is in the context. The loop's thread may not have left it yet: a call's end is known within
/// its last step, in which the interpreter may be taken from that thread.
fn is_left_in_time(context: &Bound<'_, PyAny>) -> bool {
    if Entered::new(context).is_ok() {
        return true;
    }
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_STEP_END {
        process::sleep(context.py(), || thread::sleep(Duration::from_micros(50)));
        if Entered::new(context).is_ok() {
            return true;
        }
    }
    false
}

thread_local! {
    static KEPT: Leaky<Kept> = const { Leaky::new() };
    static END: Deferred = const { Deferred::new() };
}

/// Keeps the context for this thread's next call.
fn keep_for_next_call(py: Python<'_>, kept: Kept) -> PyResult<()> {
    if thread_end::is_ending() {
        return Ok(());
    }
    drop(KEPT.with(|slot| slot.replace(Some(kept))));
    END.with(|end| end.ensure(py, at_end))
}

fn at_end(py: Python<'_>) {
    END.with(Deferred::forget);
    forget_kept(py);
}

/// Lets go of what is kept for this thread's next call.
pub fn forget_kept(_py: Python<'_>) {
    drop(KEPT.with(Leaky::take));
}

/// The context of one call.
pub struct Carried {
    context: Py<PyAny>,
    before: Py<PyAny>,
    unset: Option<Py<PyDict>>,
    /// A copy of the caller's context from before the call, if `context` is one that was kept.
    caller: Option<Py<PyAny>>,
}

impl Carried {
    /// Takes the calling thread's variables along. `at_hand` is a context that serves if it has the same ones.
    pub fn from_caller(py: Python<'_>, at_hand: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let current = copy_for_elsewhere(py)?;
        if let Some(kept) = KEPT.with(Leaky::take)
            && kept.follow(&current)?
        {
            let before = copy_of(kept.context.bind(py))?.unbind();
            return Ok(Self { context: kept.context, before, unset: Some(kept.unset), caller: Some(current.unbind()) });
        }
        if let Some(context) = at_hand
            && Variables::of(&context) == Variables::of(&current)
        {
            return Ok(Self { context: context.unbind(), before: current.unbind(), unset: None, caller: None });
        }
        let before = copy_of(&current)?.unbind();
        Ok(Self { context: current.unbind(), before, unset: None, caller: None })
    }

    /// As `from_caller`, in a context that no other call shares. For callers that are tasks: several of them take
    /// turns in one thread.
    pub fn fresh(py: Python<'_>) -> PyResult<Self> {
        let context = copy_for_elsewhere(py)?;
        let before = copy_of(&context)?.unbind();
        Ok(Self { context: context.unbind(), before, unset: None, caller: None })
    }

    /// Sets a variable in the context. The caller does not see that.
    pub fn with_own(self, variable: Variable<'_>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let context = self.context.bind(value.py());
        let entered = Entered::new(context)?;
        variable.set(value)?;
        drop(entered);
        let before = copy_of(context)?.unbind();
        Ok(Self { before, ..self })
    }

    pub fn has(&self, variable: Variable<'_>) -> PyResult<bool> {
        self.context.bind(variable.0.py()).contains(variable.0)
    }

    /// For one more step of an object that has a context of its own, and keeps the tokens (`unset`) from step to step.
    pub fn of(context: &Bound<'_, PyAny>, unset: &Py<PyDict>) -> PyResult<Self> {
        let before = copy_of(context)?.unbind();
        let unset = Some(unset.clone_ref(context.py()));
        Ok(Self { context: context.clone().unbind(), before, unset, caller: None })
    }

    pub fn context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    /// Shows the calling thread what the coroutine changed, and keeps the context for its next call if `keep` (by 5).
    pub fn write_back(self, py: Python<'_>, keep: bool) -> PyResult<()> {
        let (context, before) = (self.context.bind(py), self.before.bind(py));
        if Variables::of(context) == Variables::of(before) {
            if let (Some(unset), true) = (self.unset, keep) {
                let in_step = self.caller.map(|caller| InStep { caller, kept: self.before });
                keep_for_next_call(py, Kept { context: self.context, unset, in_step })?;
            }
            return Ok(());
        }
        let missing = PyDict::new(py).into_any();
        let unset = self.unset.map_or_else(|| PyDict::new(py), |unset| unset.into_bound(py));
        let of_call = OfCall::known(py)?;
        for variable in context.try_iter()? {
            let variable = variable?;
            if of_call.has(&variable) {
                continue;
            }
            let value = context.get_item(&variable)?;
            let value_before = get(before, &variable, &missing)?;
            if value_before.is(&value) {
                continue;
            }
            let Some(value) = moved_back(value_before, value)? else { continue };
            let was_set = !variable.call_method1(intern!(py, "get"), (&missing,))?.is(&missing);
            let token = variable.call_method1(intern!(py, "set"), (value,))?;
            if !was_set {
                unset.set_item(variable, token)?;
            }
        }
        for variable in before.try_iter()? {
            let variable = variable?;
            if context.contains(&variable)? {
                continue;
            }
            // The coroutine has unset this variable. In the caller's context only a token can unset it. If we have
            // none, the caller has set the variable itself, and keeps it.
            if let Some(token) = unset.get_item(&variable)? {
                unset.del_item(&variable)?;
                // Fails if the caller runs in another context than the one that the token was made in.
                let _ = variable.call_method1(intern!(py, "reset"), (token,));
            }
        }
        if keep {
            keep_for_next_call(py, Kept { context: self.context, unset: unset.unbind(), in_step: None })?;
        }
        Ok(())
    }
}

/// A context variable, set and read without a call of Python's.
#[derive(Clone, Copy)]
pub struct Variable<'py>(&'py Bound<'py, PyAny>);

impl<'py> Variable<'py> {
    pub fn new(variable: &'py Bound<'py, PyAny>) -> Self {
        Self(variable)
    }

    pub fn get(self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.0.py();
        let mut value = std::ptr::null_mut();
        // SAFETY: attached, and this is a context variable.
        let got = unsafe { ffi::PyContextVar_Get(self.0.as_ptr(), std::ptr::null_mut(), &raw mut value) };
        if got < 0 {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: a new reference, or null where the variable is not set.
        Ok(unsafe { Bound::from_owned_ptr_or_opt(py, value) })
    }

    pub fn set(self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: attached, and this is a context variable.
        let token = unsafe { ffi::PyContextVar_Set(self.0.as_ptr(), value.as_ptr()) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(self.0.py(), token) }.map(drop)
    }
}

/// The variables that are true of one call only (by 4): ours, and asgiref's.
struct OfCall<'py>(Variable<'py>, Option<&'py Bound<'py, PyAny>>);

impl<'py> OfCall<'py> {
    fn known(py: Python<'py>) -> PyResult<Self> {
        let asgirefs = if ASGIREF.is_there(py) { Some(names::asgiref_executors_variable(py)?) } else { None };
        Ok(Self(caller_variable(py)?, asgirefs))
    }

    fn has(&self, variable: &Bound<'_, PyAny>) -> bool {
        variable.is(self.0.0) || self.1.is_some_and(|asgirefs| variable.is(asgirefs))
    }
}

/// The context is going to run in this thread: gives the thread the values of asgiref's locals, which belong to one
/// thread each.
pub fn move_here(context: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    if ASGIREF.is_there(py) { names::asgiref_move_here(py)?.call1((context,)).map(drop) } else { Ok(()) }
}

/// The value that the caller gets of a variable that has changed: as it is, or, of asgiref's locals, as one of this
/// thread's. `None` if it was only moved to another thread.
fn moved_back<'py>(before: Bound<'py, PyAny>, value: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = value.py();
    if !ASGIREF.is_there(py) || !value.get_type().is(names::asgiref_stored(py)?) {
        return Ok(Some(value));
    }
    let moved = names::asgiref_moved_back(py)?.call1((before, value))?;
    Ok((!moved.is_none()).then_some(moved))
}

/// The variable that says for whom a task works: call/caller.rs sets it.
pub fn caller_variable(py: Python<'_>) -> PyResult<Variable<'_>> {
    static CELL: Once<Py<PyAny>> = Once::new();
    let made = CELL.get_or_try_init(py, || {
        // SAFETY: attached; the name lives for ever.
        let variable = unsafe { ffi::PyContextVar_New(c"syncline_caller".as_ptr(), std::ptr::null_mut()) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, variable) }.map(Bound::unbind)
    });
    Ok(Variable(made?.bind(py)))
}

/// Copies the caller's context for a task that nobody waits for, or whose changes are not wanted.
pub fn copy(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(copy_for_elsewhere(py)?.unbind())
}

fn get<'py>(
    context: &Bound<'py, PyAny>,
    variable: &Bound<'py, PyAny>,
    missing: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    context.call_method1(intern!(context.py(), "get"), (variable, missing))
}

/// Gives `kept` the variables of `current`. False if `kept` has a variable more: it can't be unset without a token.
fn bring_up_to_date(kept: &Bound<'_, PyAny>, current: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = kept.py();
    if Variables::of(kept) == Variables::of(current) {
        return Ok(true);
    }
    let of_call = OfCall::known(py)?;
    for variable in kept.try_iter()? {
        let variable = variable?;
        if !current.contains(&variable)? && !of_call.has(&variable) {
            return Ok(false);
        }
    }
    let missing = PyDict::new(py).into_any();
    for variable in current.try_iter()? {
        let variable = variable?;
        let value = current.get_item(&variable)?;
        if !get(kept, &variable, &missing)?.is(&value) {
            kept.call_method1(intern!(py, "run"), (variable.getattr(intern!(py, "set"))?, value))?;
        }
    }
    Ok(true)
}

/// A context that this thread has entered, and leaves when this is dropped.
pub struct Entered<'py>(&'py Bound<'py, PyAny>);

impl<'py> Entered<'py> {
    pub fn new(context: &'py Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: attached, and only contexts come here.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 {
            Ok(Self(context))
        } else {
            Err(PyErr::fetch(context.py()))
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: attached, and `new` entered this very context. It fails only if that is not the current one.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}

/// Leaves a context, as its `run` does at its end. False if it is not the current one, or was not entered.
pub fn leave(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, and only contexts come here.
    let is_left = unsafe { ffi::PyContext_Exit(context.as_ptr()) } == 0;
    if !is_left {
        drop(PyErr::take(context.py()));
    }
    is_left
}

/// Enters a context that `leave` has left.
pub fn enter_again(context: &Bound<'_, PyAny>) -> PyResult<()> {
    Entered::new(context).map(std::mem::forget)
}
