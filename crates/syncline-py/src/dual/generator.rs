//! Generators that serve both worlds: `send`, `throw`, `close` and their async twins.

use super::iterator::IteratorBase;
use super::wrapped::{self, Wrapped, at_home, describe, not_defined, not_wrapping, redefines};
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::once::intern;
use crate::python::signals;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

/// The words of messages for the object that is wrapped.
const WHAT: &str = "an async generator";

/// What `syncline.DualGenerator` is made of.
#[pyclass(frozen, subclass, extends = IteratorBase, module = "syncline._core")]
pub struct GeneratorBase;

/// The exception that `throw(type, value, traceback)` means. Python allows these three arguments, though it deprecates
/// them.
fn thrown<'py>(
    kind: &Bound<'py, PyAny>,
    value: Option<Bound<'py, PyAny>>,
    traceback: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let value = value.filter(|value| !value.is_none());
    let error = match (kind.cast::<PyType>(), value) {
        (Err(_), _) => kind.clone(),
        (Ok(_), Some(value)) if value.is_instance(kind)? => value,
        (Ok(class), Some(value)) => match value.cast::<PyTuple>() {
            Ok(args) => class.call1(args)?,
            Err(_) => class.call1((value,))?,
        },
        (Ok(class), None) => class.call0()?,
    };
    let error = match error.cast_into::<PyBaseException>() {
        Ok(error) => error,
        Err(other) => {
            let kind = errors::type_name(&other.into_inner());
            return Err(PyTypeError::new_err(format!(
                "exceptions must be classes or instances deriving from BaseException, not {kind}"
            )));
        }
    };
    if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
        errors::set_traceback(&error, &traceback)?;
    }
    Ok(error.into_any())
}

impl GeneratorBase {
    fn step<'py>(
        slf: &Bound<'py, Self>,
        method: &Bound<'py, PyString>,
        argument: Bound<'py, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let base = slf.as_super().get();
        let _in_use = base.usage.begin_sync(|| describe(slf.as_any(), base.wrapped()))?;
        if base.usage.is_finished() {
            // As with a generator that has returned: what is thrown into it is raised at once.
            return if method == "athrow" { Err(PyErr::from_value(argument)) } else { Ok(None) };
        }
        let stepped = base.step(slf.as_any(), || {
            let function = base.source_or_self(slf.as_any()).getattr(method)?.unbind();
            Ok(Target::Step { function, args: (argument,).into_pyobject(slf.py())?.unbind() })
        });
        signals::ended(slf.py(), stepped)
    }

    fn twin<'py>(slf: &Bound<'py, Self>, method: &str, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let base = slf.as_super().get();
        let Some(source) = base.wrapped() else { return Err(not_defined(slf.as_any(), method, WHAT)) };
        if base.begin_async(slf.as_any())? {
            return at_home(slf.as_any(), method, args);
        }
        source.bind(slf.py()).call_method1(method, args)
    }
}

#[pymethods]
impl GeneratorBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(IteratorBase::default()).add_subclass(Self)
    }

    #[pyo3(signature = (agen=Wrapped(None)))]
    fn __init__(slf: &Bound<'_, Self>, agen: Wrapped<'_>) -> PyResult<()> {
        let Some(agen) = &agen.0 else {
            return if redefines::<Self>(slf.as_any(), intern!(slf.py(), "asend"))? {
                Ok(())
            } else {
                Err(not_wrapping(slf.as_any(), WHAT, "asend and athrow"))
            };
        };
        let py = slf.py();
        wrapped::check(agen, WHAT, &[intern!(py, "asend"), intern!(py, "athrow")])?;
        slf.as_super().get().wrap(agen, 0)
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::step(slf, intern!(slf.py(), "asend"), slf.py().None().into_bound(slf.py()))
    }

    /// Resumes the generator with a value; returns the next item.
    fn send(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let value = value.clone();
        Self::step(slf, intern!(slf.py(), "asend"), value)?.ok_or_else(stop)
    }

    /// Raises an exception where the generator is suspended; returns the next item.
    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        typ: &Bound<'py, PyAny>,
        val: Option<Bound<'py, PyAny>>,
        tb: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::step(slf, intern!(slf.py(), "athrow"), thrown(typ, val, tb)?)?.ok_or_else(stop)
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.as_super().get().wrapped() {
            Some(_) => Self::twin(slf, "__anext__", &PyTuple::empty(slf.py())),
            None => slf.as_any().call_method1(intern!(slf.py(), "asend"), (slf.py().None(),)),
        }
    }

    /// Async code's `send`: resumes the generator with a value; returns the next item.
    fn asend<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::twin(slf, "asend", &PyTuple::new(slf.py(), [value])?)
    }

    /// Async code's `throw`: raises an exception where the generator is suspended; returns the next item.
    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn athrow<'py>(
        slf: &Bound<'py, Self>,
        typ: &Bound<'py, PyAny>,
        val: Option<Bound<'py, PyAny>>,
        tb: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::twin(slf, "athrow", &PyTuple::new(slf.py(), [thrown(typ, val, tb)?])?)
    }

    /// Async code's `close`: ends the generator.
    fn aclose<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.as_super().get().wrapped() {
            Some(_) => Self::twin(slf, "aclose", &PyTuple::empty(slf.py())),
            // The mixin method of `collections.abc.AsyncGenerator`, which calls the subclass's `athrow`.
            None => slf.py().import("collections.abc")?.getattr("AsyncGenerator")?.call_method1("aclose", (slf,)),
        }
    }
}

fn stop() -> PyErr {
    pyo3::exceptions::PyStopIteration::new_err(())
}
