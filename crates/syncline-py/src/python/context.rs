//! Contextvars: the coroutine sees the caller's, and the caller sees what the coroutine changed.
//!
//! A caller's own `Context` cannot be entered by a second thread, so the coroutine runs in a copy, which costs a
//! constant; afterwards the changes are written back. Whether there are any is one comparison of pointers, since a
//! context's variables are one immutable mapping.
//!
//! Invariants:
//! 1. Only what the coroutine changed is written back: the copy is compared with itself as it was before, by identity,
//!    never with `==` (arrays raise there). 2. While a thread's calls keep changing variables they share one `Context`
//!    object, as a `Token` can be reset only in the object that it was made in; other threads never see that object.
//! 3. A context that goes elsewhere does not say which library runs there: anyio's programs note that of theirs.
//! 4. Only a call that has ended gives its context on: what its caller left behind goes on in there.

use crate::python::leaky::Leaky;
use crate::python::once::intern;
use crate::python::surroundings;
use crate::python::thread_end::{self, Deferred};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::raw::{c_int, c_void};

/// What a context's variables are, as an identity: equal if and only if nothing was set or reset in between, for as
/// long as one of the contexts compared lives.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Variables(*mut ffi::PyObject);

extern "C" fn note_last(object: *mut ffi::PyObject, last: *mut c_void) -> c_int {
    // SAFETY: `variables_of` passes a pointer to its own local, which outlives the traversal.
    unsafe { *last.cast::<*mut ffi::PyObject>() = object };
    0
}

/// `gc.get_referents(context)[-1]`, without the list: a context refers to the context that it was entered from (while
/// it is entered) and then to the mapping of its variables.
fn variables_of(context: &Bound<'_, PyAny>) -> Variables {
    let mut last: *mut ffi::PyObject = std::ptr::null_mut();
    let class = context.get_type();
    // SAFETY: `class` is alive, and a type object may be read while attached.
    let traverse = unsafe { (*class.as_type_ptr()).tp_traverse };
    if let Some(traverse) = traverse {
        // SAFETY: this is what `gc.get_referents` does; the visitor neither keeps nor changes what it is shown.
        unsafe { traverse(context.as_ptr(), note_last, (&raw mut last).cast()) };
    }
    Variables(last)
}

fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached.
    let copy = unsafe { ffi::PyContext_CopyCurrent() };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, copy) }
}

/// By 3.
fn copy_for_elsewhere(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let copy = copy_current(py)?;
    if let Some(variable) = surroundings::library_variable(py)?
        && !variable.call_method1(intern!(py, "get"), (py.None(),))?.is_none()
    {
        copy.call_method1(intern!(py, "run"), (variable.getattr(intern!(py, "set"))?, py.None()))?;
    }
    Ok(copy)
}

fn copy_of<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, and only contexts come here.
    let copy = unsafe { ffi::PyContext_Copy(context.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), copy) }
}

/// A context that changed in one call, kept for the thread's next one (by 2).
struct Kept {
    context: Py<PyAny>,
    /// For each variable that the caller had not set before we wrote it back: the token that unsets it.
    unset: Py<PyDict>,
    /// Copies of the caller's context and of this one from when both had the same variables: while neither has changed
    /// since, that is known without a look at each.
    in_step: Option<InStep>,
}

struct InStep {
    caller: Py<PyAny>,
    kept: Py<PyAny>,
}

impl Kept {
    /// Gives the context the variables of `current`. False if it can't be, or if somebody runs in it.
    fn follow(&self, current: &Bound<'_, PyAny>) -> PyResult<bool> {
        let context = self.context.bind(current.py());
        let is_in_step = self.in_step.as_ref().is_some_and(|known| {
            variables_of(known.caller.bind(current.py())) == variables_of(current)
                && variables_of(known.kept.bind(current.py())) == variables_of(context)
        });
        // A loop's thread may be about to leave it, in the step that ended the call.
        if Entered::new(context).is_err() {
            return Ok(false);
        }
        Ok(is_in_step || bring_up_to_date(context, current)?)
    }
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
    /// The caller's variables at the beginning, if `context` is one that was kept.
    caller: Option<Py<PyAny>>,
}

impl Carried {
    /// Takes the calling thread's variables along.
    pub fn from_caller(py: Python<'_>) -> PyResult<Self> {
        let current = copy_for_elsewhere(py)?;
        if let Some(kept) = KEPT.with(Leaky::take)
            && kept.follow(&current)?
        {
            let before = copy_of(kept.context.bind(py))?.unbind();
            return Ok(Self { context: kept.context, before, unset: Some(kept.unset), caller: Some(current.unbind()) });
        }
        let before = copy_of(&current)?.unbind();
        Ok(Self { context: current.unbind(), before, unset: None, caller: None })
    }

    /// As `from_caller`, in a context that no other call shares: for tasks, which take turns in one thread.
    pub fn fresh(py: Python<'_>) -> PyResult<Self> {
        let context = copy_for_elsewhere(py)?;
        let before = copy_of(&context)?.unbind();
        Ok(Self { context: context.unbind(), before, unset: None, caller: None })
    }

    /// As `fresh`, with one more variable that is set in there only.
    pub fn fresh_with(py: Python<'_>, variable: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let context = copy_for_elsewhere(py)?;
        if !context.contains(variable)? {
            context.call_method1(intern!(py, "run"), (variable.getattr(intern!(py, "set"))?, value))?;
        }
        let before = copy_of(&context)?.unbind();
        Ok(Self { context: context.unbind(), before, unset: None, caller: None })
    }

    /// For one more step of something that has a context of its own, and keeps the tokens from step to step.
    pub fn of(context: &Bound<'_, PyAny>, unset: &Py<PyDict>) -> PyResult<Self> {
        let before = copy_of(context)?.unbind();
        let unset = Some(unset.clone_ref(context.py()));
        Ok(Self { context: context.clone().unbind(), before, unset, caller: None })
    }

    pub fn context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    /// Shows the calling thread what the coroutine changed, and keeps the context for its next call if `keep` (by 4).
    pub fn write_back(self, py: Python<'_>, keep: bool) -> PyResult<()> {
        let (context, before) = (self.context.bind(py), self.before.bind(py));
        if variables_of(context) == variables_of(before) {
            if let (Some(unset), true) = (self.unset, keep) {
                let in_step = self.caller.map(|caller| InStep { caller, kept: self.before });
                keep_for_next_call(py, Kept { context: self.context, unset, in_step })?;
            }
            return Ok(());
        }
        let missing = PyDict::new(py).into_any();
        let unset = self.unset.map_or_else(|| PyDict::new(py), |unset| unset.into_bound(py));
        for variable in context.try_iter()? {
            let variable = variable?;
            let value = context.get_item(&variable)?;
            if get(before, &variable, &missing)?.is(&value) {
                continue;
            }
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
            // A variable can only be unset with a token. Without one of ours the caller set it itself, and keeps it.
            if let Some(token) = unset.get_item(&variable)? {
                unset.del_item(&variable)?;
                // Fails where the caller has entered another context since.
                let _ = variable.call_method1(intern!(py, "reset"), (token,));
            }
        }
        if keep {
            keep_for_next_call(py, Kept { context: self.context, unset: unset.unbind(), in_step: None })?;
        }
        Ok(())
    }
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

/// Gives `kept` the variables of `current`. False if it can't be, as nothing can unset a variable from outside.
fn bring_up_to_date(kept: &Bound<'_, PyAny>, current: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = kept.py();
    if variables_of(kept) == variables_of(current) {
        return Ok(true);
    }
    for variable in kept.try_iter()? {
        if !current.contains(variable?)? {
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

/// A context that this thread has entered.
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
