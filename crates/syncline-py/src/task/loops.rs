//! The event loops that bridges make, and what asyncio's own loops lack for them.
//!
//! Invariants:
//! 1. A loop of our class is asked each time a task is made there: tasks can nest, whatever task factory the user gives it.
//! 2. A loop says that it runs while the core takes a first step on it, outside of the loop's own turns.

use crate::python::names;
use crate::python::once::{Once, intern};
use crate::switch::nest;
use crate::switch::nestable::{self, TaskFactory};
use crate::switch::strand::Owner;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// What the loops of bridges are besides asyncio's. What asyncio asks of a loop for each task is answered in Rust.
#[pyclass(frozen, subclass, module = "syncline._core")]
#[derive(Default)]
pub struct BridgeLoop {
    is_stepping: AtomicBool,
    has_task_factory: AtomicBool,
    is_debugged: AtomicBool,
}

#[pymethods]
impl BridgeLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (coro, **options))]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let coroutine = if nest::strands_here() { nestable::wrapped(coro)? } else { coro };
        names::base_create_task(slf.py())?.call((slf, coroutine), options)
    }

    fn set_task_factory(slf: &Bound<'_, Self>, factory: &Bound<'_, PyAny>) -> PyResult<()> {
        names::base_set_task_factory(slf.py())?.call1((slf, factory))?;
        slf.get().has_task_factory.store(counts(factory), Relaxed);
        Ok(())
    }

    fn is_running(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(slf.get().is_stepping.load(Relaxed) || names::base_is_running(slf.py())?.call1((slf,))?.is_truthy()?)
    }

    fn set_debug(slf: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().is_debugged.store(enabled.is_truthy()?, Relaxed);
        names::base_set_debug(slf.py())?.call1((slf, enabled)).map(drop)
    }

    fn get_debug(&self) -> bool {
        self.is_debugged.load(Relaxed)
    }
}

/// By 2, while it lives.
pub struct Stepping<'a>(Option<&'a AtomicBool>);

impl<'a> Stepping<'a> {
    pub fn on(event_loop: &'a Bound<'_, PyAny>) -> Self {
        let ours = event_loop.cast::<BridgeLoop>().ok().map(|ours| &ours.get().is_stepping);
        Self(ours.filter(|is_stepping| !is_stepping.swap(true, Relaxed)))
    }
}

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        if let Some(is_stepping) = self.0 {
            is_stepping.store(false, Relaxed);
        }
    }
}

/// Whether the user has a say in how tasks are made there.
pub fn has_task_factory(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    match event_loop.cast::<BridgeLoop>() {
        Ok(ours) => Ok(ours.get().has_task_factory.load(Relaxed)),
        Err(_) => {
            let factory = event_loop.call_method0(intern!(event_loop.py(), "get_task_factory"))?;
            Ok(counts(&factory))
        }
    }
}

/// Whether a task's own coroutine is there the one that the core made: another factory may put its own around that.
pub fn owner(event_loop: &Bound<'_, PyAny>) -> Owner {
    match event_loop.cast::<BridgeLoop>() {
        Ok(ours) if !ours.get().has_task_factory.load(Relaxed) => Owner::TaskOfOurs,
        _ => Owner::WhoeverSteps,
    }
}

/// One of ours alone changes nothing where what the core makes runs in a strand already.
fn counts(factory: &Bound<'_, PyAny>) -> bool {
    if factory.is_none() {
        return false;
    }
    let is_ours_alone = factory.cast::<TaskFactory>().is_ok_and(|ours| ours.get().inner.is_none());
    !is_ours_alone || !nest::strands_here()
}

/// The class of a runner's loop. Made here: an import more would be one that a fork in another thread could cut in two.
pub fn runner_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: Once<Py<PyAny>> = Once::new();
    let made = CELL.get_or_try_init(py, || {
        let namespace = PyDict::new(py);
        namespace.set_item("__module__", "syncline")?;
        let bases = (py.get_type::<BridgeLoop>(), names::selector_event_loop(py)?);
        PyResult::Ok(py.get_type::<PyType>().call1(("RunnerLoop", bases, namespace))?.unbind())
    });
    Ok(made?.bind(py))
}
