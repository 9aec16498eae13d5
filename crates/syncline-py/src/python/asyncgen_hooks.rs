//! A thread's hooks for async generators, exchanged without `sys.set_asyncgen_hooks`, which costs more than a step.
//!
//! They are two fields of `PyThreadState`, one after the other. Where these lie differs between Python's versions, and
//! PyO3 does not say it. So it is found out, by hooks that `sys` has set; and tried, with others. Where that fails, `sys`
//! does the exchange.

use crate::python::names;
use crate::python::once::{Once, intern};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

type Hook = *mut ffi::PyObject;

/// So many words of a thread's state are looked through. All versions have more, and the hooks among the first 30.
const WORDS: usize = 40;

/// The two fields of the calling thread's state.
struct Fields(*mut [Hook; 2]);

impl Fields {
    fn at(_py: Python<'_>, word: usize) -> Self {
        // SAFETY: attached.
        let state = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: `word` is below `WORDS`, so this is in the state.
        Self(unsafe { state.cast::<Hook>().add(word) }.cast())
    }

    fn have(&self, hooks: &[Hook; 2]) -> bool {
        // SAFETY: two words of the state, which only its own thread writes.
        unsafe { *self.0 == *hooks }
    }
}

/// Where the fields lie, in words. `None` if that could not be found out.
pub(super) fn place(py: Python<'_>) -> PyResult<Option<usize>> {
    static PLACE: Once<Option<usize>> = Once::new();
    PLACE.get_or_try_init(py, || find(py)).copied()
}

fn find(py: Python<'_>) -> PyResult<Option<usize>> {
    let earlier = names::get_asyncgen_hooks(py)?.call0()?.cast_into::<PyTuple>()?;
    let found = search(py);
    names::set_asyncgen_hooks(py)?.call1(&earlier)?;
    found
}

fn search(py: Python<'_>) -> PyResult<Option<usize>> {
    // Any callables will do that are nobody's hooks.
    let first = [names::getframe(py)?, names::get_asyncgen_hooks(py)?];
    let second = [names::set_asyncgen_hooks(py)?, names::getframe(py)?];
    let set = |hooks: [&Bound<'_, PyAny>; 2]| -> PyResult<[Hook; 2]> {
        names::set_asyncgen_hooks(py)?.call1((hooks[0], hooks[1]))?;
        Ok(hooks.map(Bound::as_ptr))
    };
    let shown = set(first)?;
    let Some(word) = (0..WORDS - 1).find(|word| Fields::at(py, *word).have(&shown)) else { return Ok(None) };
    let shown = set(second)?;
    Ok(Fields::at(py, word).have(&shown).then_some(word))
}

/// The hooks that a thread had, which it gets back when this is dropped.
pub enum Exchanged<'py> {
    Fields { py: Python<'py>, word: usize, earlier: [Hook; 2] },
    BySys(Bound<'py, PyTuple>),
}

impl<'py> Exchanged<'py> {
    /// Gives the calling thread these hooks.
    pub fn new(hooks: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let py = hooks.py();
        let Some(word) = place(py)? else {
            let earlier = names::get_asyncgen_hooks(py)?.call0()?.cast_into::<PyTuple>()?;
            names::set_asyncgen_hooks(py)?.call1(hooks)?;
            return Ok(Self::BySys(earlier));
        };
        let new = [hooks.get_borrowed_item(0)?, hooks.get_borrowed_item(1)?].map(|hook| hook.to_owned().into_ptr());
        let earlier = exchange(Fields::at(py, word), new);
        Ok(Self::Fields { py, word, earlier })
    }
}

/// Takes a loop's hooks from the calling thread, where what a signal handler raised has kept the loop from doing so.
pub fn take_back(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let first = names::get_asyncgen_hooks(py)?.call0()?.get_item(0)?;
    match first.getattr_opt(intern!(py, "__self__"))? {
        Some(owner) if owner.is(event_loop) => names::set_asyncgen_hooks(py)?.call1((py.None(), py.None())).map(drop),
        _ => Ok(()),
    }
}

fn exchange(fields: Fields, new: [Hook; 2]) -> [Hook; 2] {
    // SAFETY: the fields own what they have, and so does `new`; nothing else uses them at this moment.
    unsafe { fields.0.replace(new) }
}

impl Drop for Exchanged<'_> {
    fn drop(&mut self) {
        match self {
            Self::Fields { py, word, earlier } => {
                for hook in exchange(Fields::at(*py, *word), *earlier) {
                    // SAFETY: a reference of our own, or null.
                    unsafe { ffi::Py_XDECREF(hook) };
                }
            }
            Self::BySys(earlier) => {
                let py = earlier.py();
                let set = names::set_asyncgen_hooks(py).and_then(|set| set.call1(&*earlier));
                if let Err(error) = set {
                    error.write_unraisable(py, None);
                }
            }
        }
    }
}
