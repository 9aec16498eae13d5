//! Runs tasks in strands that are no call of a bridge's: those that our tasks make, and those of other loops, where
//! the user asked for it (`nestable`, `install`).
//!
//! Invariants:
//! 1. Whoever asks such a task's coroutine for its name, frame or state gets the answer of the user's coroutine.
//! 2. What is no coroutine, or runs in a strand already, is left as it is.

use super::greenlets;
use super::kinds::{self, Steppable, StrandId};
use super::nest::{self, Driving, Terms};
use super::parked::{self, LayerView};
use super::stepper::{Owner, current_task};
use super::strand::{Strand, active};
use crate::coroutine::driven::{Driven, Thrown};
use crate::coroutine::kinds::is_coroutine;
use crate::coroutine::target::Target;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock};

/// A coroutine that runs another one in a strand.
#[pyclass(frozen, module = "syncline._core")]
pub struct Nestable {
    inner: Py<PyAny>,
    strand: Arc<Strand>,
}

impl Nestable {
    fn of(inner: &Bound<'_, PyAny>) -> Self {
        let source = Driven::new(Target::Coroutine(inner.clone().unbind()));
        Self { inner: inner.clone().unbind(), strand: Strand::new(source, Owner::WhoeverSteps) }
    }

    /// By 1, with the nested calls that are suspended in it.
    fn of_stack(&self, py: Python<'_>, attribute: &str) -> Option<Py<PyAny>> {
        if self.strand.is_nested() {
            return parked::of_stack(py, self.strand.layers(py), attribute);
        }
        self.inner.getattr(py, attribute).ok()
    }
}

impl Steppable for Nestable {
    fn runs_in(&self, strand: StrandId) -> bool {
        self.strand.id() == strand
    }

    fn nests(&self) -> bool {
        true
    }

    fn is_nested(&self) -> bool {
        self.strand.is_nested()
    }

    fn layers(&self, py: Python<'_>) -> Vec<LayerView> {
        self.strand.layers(py)
    }

    fn waiter(&self, _py: Python<'_>) -> Option<Py<PyAny>> {
        None
    }

    fn name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.getattr(py, intern!(py, "__qualname__")).ok()
    }
}

#[pymethods]
impl Nestable {
    /// Raises ImportError where greenlet is missing: whoever makes one asks for it by name.
    #[new]
    fn new(coroutine: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = coroutine.py();
        greenlets::load(py).map_err(|error| greenlets::missing(py, error))?;
        Ok(Self::of(coroutine))
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let _inside = process::step_inside_unless_left(py);
        match self.strand.send(py.None().bind(py))? {
            PySendResult::Next(awaited) => Ok(Some(awaited.unbind())),
            PySendResult::Return(value) if value.is_none() => Ok(None),
            PySendResult::Return(value) => Err(PyStopIteration::new_err((value.unbind(),))),
        }
    }

    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = process::step_inside_unless_left(value.py());
        awaited(self.strand.send(value)?)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        kind: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _inside = process::step_inside_unless_left(kind.py());
        awaited(self.strand.throw(kind.py(), Thrown::new(kind, value, traceback))?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let _inside = process::step_inside_unless_left(py);
        if self.strand.is_nested() {
            return self.strand.close(py);
        }
        self.inner.call_method0(py, intern!(py, "close")).map(drop)
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_stack(py, "cr_frame")
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_stack(py, "cr_await")
    }

    /// By 1: asks the user's coroutine.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(name.py()).getattr(name.cast::<pyo3::types::PyString>()?)
    }

    #[getter]
    fn __name__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).getattr(intern!(py, "__name__"))
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.bind(py).getattr(intern!(py, "__qualname__"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<nestable {}>", self.inner.bind(py).repr()?))
    }

    /// Not shown: parked greenlets, which the collector can't look into. No `__clear__`: what the coroutine refers to
    /// has one.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inner)?;
        // Where others have the strand, too (a step under way), its content is not shown: see `python/collecting.rs`.
        if Arc::strong_count(&self.strand) == 1 { self.strand.source.traverse(&visit) } else { Ok(()) }
    }
}

impl Drop for Nestable {
    fn drop(&mut self) {
        self.strand.abandon();
    }
}

fn awaited(stepped: PySendResult<'_>) -> PyResult<Bound<'_, PyAny>> {
    match stepped {
        PySendResult::Next(awaited) => Ok(awaited),
        PySendResult::Return(value) => Err(PyStopIteration::new_err((value.unbind(),))),
    }
}

/// The coroutine in a `Nestable`, or the same object by 2.
fn wrapped<'py>(coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = coroutine.py();
    let is_one = is_coroutine(&coroutine)
        || match kinds::of(&coroutine) {
            Some(kind) => !(kind.nests)(&coroutine),
            None => names::is_coroutine(py)?.call1((&coroutine,))?.is_truthy()?,
        };
    if is_one { Ok(Bound::new(py, Nestable::of(&coroutine))?.into_any()) } else { Ok(coroutine) }
}

/// What a task of this thread is to be made of: the coroutine in a `Nestable` where tasks run in strands.
pub fn for_task_here<'py>(coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if nest::strands_here() { wrapped(coroutine) } else { Ok(coroutine) }
}

/// A coroutine that awaits nested calls in place, if this is one that does not yet; else the same object (by 2).
#[pyfunction]
#[pyo3(signature = (coroutine, /))]
pub fn made_nestable<'py>(coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    greenlets::load(coroutine.py()).map_err(|error| greenlets::missing(coroutine.py(), error))?;
    wrapped(coroutine)
}

/// The user's coroutine, if this is a `Nestable` around it; else the same object.
pub fn unwrapped(coroutine: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    match coroutine.cast_into::<Nestable>() {
        Ok(ours) => ours.get().inner.bind(ours.py()).clone(),
        Err(other) => other.into_inner(),
    }
}

/// Ends the parked stacks of a task that has not ended although it was cancelled: they can't outlive their thread.
pub fn close_nested(task: &Bound<'_, PyAny>) {
    let py = task.py();
    let close = || -> PyResult<()> {
        let coroutine = task.call_method0(intern!(py, "get_coro"))?;
        let is_nested = kinds::of(&coroutine).is_some_and(|kind| (kind.is_nested)(&coroutine));
        if is_nested { coroutine.call_method0(intern!(py, "close")).map(drop) } else { Ok(()) }
    };
    if let Err(error) = close() {
        error.write_unraisable(py, Some(task));
    }
}

/// A task factory that makes tasks nestable, by another factory or by asyncio's own way.
#[pyclass(frozen, module = "syncline._core")]
pub struct TaskFactory {
    pub inner: Option<Py<PyAny>>,
    /// On a loop of the user's: the tasks that there were before this factory, a weak set.
    earlier: Option<Py<PyAny>>,
    /// Once this is set, the factory makes plain tasks.
    is_undone: AtomicBool,
}

/// Whether a factory was ever put on a loop of the user's.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

#[pymethods]
impl TaskFactory {
    #[new]
    #[pyo3(signature = (inner=None, earlier=None))]
    fn new(py: Python<'_>, inner: Option<Py<PyAny>>, earlier: Option<Py<PyAny>>) -> PyResult<Self> {
        greenlets::load(py).map_err(|error| greenlets::missing(py, error))?;
        IS_INSTALLED.fetch_or(earlier.is_some(), Relaxed);
        Ok(Self { inner, earlier, is_undone: AtomicBool::new(false) })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.as_ref().map_or(Ok(()), |inner| visit.call(inner))
    }

    #[getter]
    fn inner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.as_ref().map(|inner| inner.clone_ref(py))
    }

    /// For one that can't be taken off the loop, since another factory was put upon it.
    fn undo(&self) {
        self.is_undone.store(true, Relaxed);
    }

    #[pyo3(signature = (event_loop, coroutine, /, **options))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        event_loop: &Bound<'py, PyAny>,
        coroutine: Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _inside = process::step_inside_unless_left(py);
        let coroutine = if self.is_undone.load(Relaxed) { coroutine } else { wrapped(coroutine)? };
        let all = match options {
            Some(options) => options.copy()?,
            None => PyDict::new(py),
        };
        // uvloop always passes these, also where their value is None. A factory for eager tasks takes
        // `eager_start=None` for "not eager"; only where the option is missing does it make eager ones.
        for name in [intern!(py, "name"), intern!(py, "context"), intern!(py, "eager_start")] {
            if all.get_item(name)?.is_some_and(|value| value.is_none()) {
                all.del_item(name)?;
            }
        }
        kinds::before_task(py, Some(&all))?;
        if let Some(inner) = &self.inner {
            return inner.bind(py).call((event_loop, coroutine), Some(&all));
        }
        all.set_item(intern!(py, "loop"), event_loop)?;
        names::task(py)?.call((coroutine,), Some(&all))
    }
}

impl TaskFactory {
    /// Whether our factory was on the loop before the task was made, and has not made it: the task was made in
    /// another way than by `loop.create_task`.
    fn was_to_make(task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = task.py();
        let Some(event_loop) = names::running_loop(py)? else { return Ok(false) };
        let factory = event_loop.call_method0(intern!(py, "get_task_factory"))?;
        let Ok(ours) = factory.cast::<Self>() else { return Ok(false) };
        match &ours.get().earlier {
            Some(earlier) => Ok(!ours.get().is_undone.load(Relaxed) && !earlier.bind(py).contains(task)?),
            None => Ok(false),
        }
    }
}

/// For a loop of another maker: puts our factory on it if `switches`, so that tasks of our tasks run in strands.
pub fn nests(switches: bool, event_loop: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = event_loop.py();
    if switches {
        let inner = event_loop.call_method0(intern!(py, "get_task_factory"))?;
        let inner = (!inner.is_none()).then(|| inner.unbind());
        event_loop.call_method1(intern!(py, "set_task_factory"), (TaskFactory::new(py, inner, None)?,))?;
    }
    Ok(event_loop)
}

/// For a nested call that is about to block the loop, as its task does not run in a strand. If the task should, but
/// was not made by the loop's task factory, a warning says so, and what to do.
pub fn explain_blocking(py: Python<'_>, terms: &Terms) -> PyResult<()> {
    let is_installed = match nest::driving() {
        _ if !terms.switches => return Ok(()),
        Driving::Ours { bridge, switches: true } if bridge == terms.bridge => false,
        Driving::Foreign if IS_INSTALLED.load(Relaxed) => true,
        _ => return Ok(()),
    };
    let Some(task) = current_task(py).filter(|task| !task.is_none()) else { return Ok(()) };
    let coroutine = task.call_method0(intern!(py, "get_coro"))?;
    if kinds::of(&coroutine).is_some() || (is_installed && !TaskFactory::was_to_make(&task)?) {
        return Ok(());
    }
    names::warn_of_blocking(py)?.call1((coroutine,)).map(drop)
}

/// `with no_switch():` a nested call in the block, made in the task that entered it, raises RuntimeError.
// No `__traverse__`: it has a strand while its block runs.
#[pyclass(frozen, name = "no_switch", module = "syncline")]
#[derive(Default)]
pub struct NoSwitch {
    entered: Mutex<Vec<Option<Arc<Strand>>>>,
}

#[pymethods]
impl NoSwitch {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __enter__(&self) {
        let strand = active();
        if let Some(strand) = &strand {
            strand.forbidden.fetch_add(1, Relaxed);
        }
        lock(&self.entered).push(strand);
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) {
        let here = active();
        let address = |strand: &Option<Arc<Strand>>| strand.as_ref().map(Arc::as_ptr);
        let left = {
            let mut entered = lock(&self.entered);
            let own = entered.iter().rposition(|strand| address(strand) == address(&here));
            // If this task has not entered the block (another one has), the last one that has entered it leaves.
            own.or(entered.len().checked_sub(1)).map(|index| entered.remove(index))
        };
        if let Some(strand) = left.flatten() {
            strand.forbidden.fetch_sub(1, Relaxed);
        }
    }
}
