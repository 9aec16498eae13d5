//! Which classes of coroutines of ours may run in strands.
//!
//! Some of the classes, and what is to be done before a task is made, live in rooms that this one must not use. So they
//! are entered here, by `fill`, when the extension is imported.

use super::parked::LayerView;
use crate::python::once::Once;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyDict, PyType};

/// Tells strands apart: a strand's address, which is its own for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StrandId(pub usize);

/// A nested call that is suspended: the parked greenlet, and what it awaits.
pub type NestedCall<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

/// A class of coroutines that tasks of ours run.
pub struct CoroutineKind {
    pub class: Py<PyType>,
    /// Whether what such a coroutine runs at the moment runs in this strand.
    pub runs_in: fn(&Bound<'_, PyAny>, StrandId) -> bool,
    /// Whether its steps are made in a strand.
    pub nests: fn(&Bound<'_, PyAny>) -> bool,
    /// Whether a nested call is suspended in such a coroutine.
    pub is_nested: fn(&Bound<'_, PyAny>) -> bool,
    /// What such a coroutine consists of, for tools; as `Strand::layers`.
    pub layers: fn(&Bound<'_, PyAny>) -> Vec<LayerView>,
    /// The task that waits for it, if that is known.
    pub waiter: fn(&Bound<'_, PyAny>) -> Option<Py<PyAny>>,
    /// The name of what it runs.
    pub name: fn(&Bound<'_, PyAny>) -> Option<Py<PyAny>>,
}

/// What such a class is asked, each coroutine for itself; the words are those of `CoroutineKind`.
pub trait Steppable {
    fn runs_in(&self, strand: StrandId) -> bool;
    fn nests(&self) -> bool;
    fn is_nested(&self) -> bool;
    fn layers(&self, py: Python<'_>) -> Vec<LayerView>;
    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>>;
    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>>;
}

impl CoroutineKind {
    pub fn of_class<T: Steppable + PyClass<Frozen = True> + Sync>(py: Python<'_>) -> Self {
        fn this<'a, T: PyClass<Frozen = True> + Sync>(coroutine: &'a Bound<'_, PyAny>) -> Option<&'a T> {
            coroutine.cast::<T>().ok().map(Bound::get)
        }
        Self {
            class: py.get_type::<T>().unbind(),
            runs_in: |coroutine, strand| this::<T>(coroutine).is_some_and(|this| this.runs_in(strand)),
            nests: |coroutine| this::<T>(coroutine).is_some_and(T::nests),
            is_nested: |coroutine| this::<T>(coroutine).is_some_and(T::is_nested),
            layers: |coroutine| this::<T>(coroutine).map_or_else(Vec::new, |this| this.layers(coroutine.py())),
            waiter: |coroutine| this::<T>(coroutine)?.waiter(coroutine.py()),
            name: |coroutine| this::<T>(coroutine)?.name(coroutine.py()),
        }
    }
}

/// What is to be done before a task is made; gets the options that it is made with.
pub type BeforeTask = for<'py> fn(Python<'py>, Option<&Bound<'py, PyDict>>) -> PyResult<()>;

static KINDS: Once<Vec<CoroutineKind>> = Once::new();
static BEFORE_TASK: Once<BeforeTask> = Once::new();

pub fn fill(py: Python<'_>, kinds: Vec<CoroutineKind>, before_task: BeforeTask) {
    KINDS.set(py, kinds);
    BEFORE_TASK.set(py, before_task);
}

pub fn before_task<'py>(py: Python<'py>, options: Option<&Bound<'py, PyDict>>) -> PyResult<()> {
    BEFORE_TASK.get(py).map_or(Ok(()), |note| note(py, options))
}

/// The kind of a coroutine, if it is one of ours.
pub fn of<'py>(coroutine: &Bound<'py, PyAny>) -> Option<&'py CoroutineKind> {
    let class = coroutine.get_type();
    KINDS.get(coroutine.py())?.iter().find(|kind| class.is(&kind.class))
}

/// The nested calls that are suspended in a coroutine of ours, the outermost first: the greenlet that is parked in
/// the middle of each, and what it awaits. Where a greenlet has made several, the last one is meant.
#[pyfunction]
#[pyo3(signature = (coroutine, /))]
pub fn nested_calls<'py>(coroutine: &Bound<'py, PyAny>) -> Vec<NestedCall<'py>> {
    let py = coroutine.py();
    let layers = of(coroutine).map_or_else(Vec::new, |kind| (kind.layers)(coroutine));
    let of_above = layers.iter().skip(1).map(|(above, ..)| above.as_ref()).chain([None]);
    let parked = layers.iter().zip(of_above).filter_map(|((_, greenlet, nested), of_above)| {
        let awaited = nested.as_ref().or(of_above).map(|awaited| awaited.bind(py).clone());
        Some((greenlet.as_ref()?.bind(py).clone(), awaited))
    });
    parked.collect()
}
