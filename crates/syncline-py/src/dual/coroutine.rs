//! Coroutines that serve both worlds: `await f()` and `f().run()`.

use super::wrapped::{self, Wrapped, bridge_of, goes_home, not_defined, not_wrapping, redefines, run_at_home};
use crate::call::wait::{Seconds, number};
use crate::coroutine::kinds::is_coroutine;
use crate::coroutine::target::Target;
use crate::python::collecting::look;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::sync::OnceLock;
use syncline_core::sync::{Mutex, lock, replace};

/// The words of messages for the object that is wrapped.
const WHAT: &str = "a coroutine";

/// What `syncline.DualCoroutine` is made of. It is a coroutine itself (`asyncio.run` and `create_task` take it).
#[pyclass(frozen, subclass, module = "syncline._core")]
#[derive(Default)]
pub struct CoroutineBase {
    source: OnceLock<Py<PyAny>>,
    /// What `send` and `throw` drive: made of `source` when one of them is first called.
    driven: Mutex<Option<Py<PyAny>>>,
}

impl CoroutineBase {
    fn driven<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(driven) = lock(&slf.get().driven).as_ref() {
            return Ok(driven.bind(py).clone());
        }
        let made = match slf.get().source.get() {
            Some(source) if is_coroutine(source.bind(py)) && !goes_home(slf.as_any())? => source.bind(py).clone(),
            _ => slf.as_any().call_method0(intern!(py, "__await__"))?,
        };
        drop(replace(&slf.get().driven, Some(made.clone().unbind())));
        Ok(made)
    }

    /// What tells of its state: the coroutine that it wraps, or what is driven.
    fn shown<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().source.get().map(|source| source.bind(slf.py())) {
            Some(source) if is_coroutine(source) => Ok(source.clone()),
            _ => Self::driven(slf),
        }
    }

    fn target(source: &Bound<'_, PyAny>) -> PyResult<Target> {
        Target::from_awaitable(source).map_err(|error| {
            if error.is_instance_of::<PyRuntimeError>(source.py()) {
                let name = errors::name_of(source);
                PyRuntimeError::new_err(format!(
                    "{name}(...) was run or awaited already; make another one: {name}(...).run()"
                ))
            } else {
                error
            }
        })
    }
}

#[pymethods]
impl CoroutineBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (coro=Wrapped(None)))]
    fn __init__(slf: &Bound<'_, Self>, coro: Wrapped<'_>) -> PyResult<()> {
        let Some(coro) = &coro.0 else {
            return if redefines::<Self>(slf.as_any(), intern!(slf.py(), "__await__"))? {
                Ok(())
            } else {
                Err(not_wrapping(slf.as_any(), WHAT, "__await__"))
            };
        };
        wrapped::check(coro, WHAT, &[intern!(coro.py(), "__await__")])?;
        // Set once: a second call of `__init__` changes nothing.
        let _ = slf.get().source.set(coro.clone().unbind());
        Ok(())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().source.get() {
            Some(source) if goes_home(slf.as_any())? => run_at_home(slf.as_any(), Self::target(source.bind(slf.py()))?),
            Some(source) => source.bind(slf.py()).call_method0(intern!(slf.py(), "__await__")),
            None => Err(not_defined(slf.as_any(), "__await__", WHAT)),
        }
    }

    /// Runs it from sync code, wherever that is, and returns its result. `timeout` in seconds.
    ///
    /// Raises what it raises, TimeoutError after it was cancelled and has cleaned up, RunnerClosedError or
    /// DeadlockError.
    #[pyo3(signature = (timeout=None))]
    fn run(slf: &Bound<'_, Self>, timeout: Option<Seconds<'_>>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let bridge = bridge_of(slf.as_any())?;
        let target = match slf.get().source.get() {
            Some(source) => Self::target(source.bind(py))?,
            None => Target::Awaitable(slf.as_any().clone().unbind()),
        };
        let (target, timeout) = target.with(py, number("timeout", timeout.as_ref()))?;
        bridge.run(py, target, timeout)
    }

    /// One step, as an event loop makes it. Returns what it waits for; raises StopIteration with its result at its
    /// end, and what it raises.
    fn send<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::driven(slf)?.call_method1(intern!(slf.py(), "send"), (value,))
    }

    /// One step, in which this error is raised where it waits; else as `send`.
    #[pyo3(signature = (*args))]
    fn throw<'py>(slf: &Bound<'py, Self>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        Self::driven(slf)?.call_method1(intern!(slf.py(), "throw"), args)
    }

    /// Ends it by a GeneratorExit where it waits. One that has not begun never runs.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::driven(slf)?.call_method0(intern!(slf.py(), "close")).map(drop)
    }

    #[getter]
    fn cr_running<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "cr_running"))
    }

    #[getter]
    fn cr_frame<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "cr_frame"))
    }

    #[getter]
    fn cr_code<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "cr_code"))
    }

    #[getter]
    fn cr_await<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "cr_await"))
    }

    #[getter]
    fn __name__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "__name__"))
    }

    #[getter]
    fn __qualname__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::shown(slf)?.getattr(intern!(slf.py(), "__qualname__"))
    }

    fn _held<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let this = slf.get();
        let is_at_rest = lock(&this.driven).is_none();
        wrapped::held(slf.as_any(), "coro", this.source.get(), is_at_rest)
    }

    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        names::parametrized(class, item)
    }

    /// There is no `__clear__`: the collector opens a ring at another object that the coroutine refers to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(source) = self.source.get() {
            visit.call(source)?;
        }
        look(&self.driven, |driven| driven.as_ref().map_or(Ok(()), |driven| visit.call(driven)))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        wrapped::repr(slf.as_any(), slf.get().source.get())
    }
}
