//! An `__exit__` that is written in Python, and that a signal can't keep from leaving.
//!
//! Python runs signal handlers as a function of its own begins: what one raises there ends an `__exit__` before its first
//! line, and nobody would leave what was entered. In code in C it runs none. So that is what `with` calls.

use crate::python::names;
use crate::python::signals;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

#[pyclass(frozen, module = "syncline._core")]
pub struct Leaving {
    function: Py<PyAny>,
    /// What it has entered. It must not run Python code.
    entered: Py<PyAny>,
    /// Leaves that, if anything is entered, because of an error.
    leave: Py<PyAny>,
}

#[pymethods]
impl Leaving {
    #[new]
    #[pyo3(signature = (function, entered, leave, /))]
    fn new(function: Py<PyAny>, entered: Py<PyAny>, leave: Py<PyAny>) -> Self {
        Self { function, entered, leave }
    }

    #[pyo3(signature = (one, /, *args, **kwargs))]
    fn __call__(
        &self,
        one: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = one.py();
        let entered = || self.entered.call1(py, (one,)).ok();
        let before = entered();
        let all = (one,).into_pyobject(py)?.as_sequence().concat(args.as_sequence())?.to_tuple()?;
        let left = self.function.call(py, all, kwargs);
        if let Err(error) = &left
            && let Some(before) = before
            && signals::are_handlers(py, error)
            && entered().is_some_and(|now| now.is(&before))
        {
            signals::unbroken(py, || self.leave.call1(py, (one, error.value(py))).map(drop))?;
        }
        left
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        one: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if one.is_none() {
            return Ok(slf.clone().into_any());
        }
        names::method_type(slf.py())?.call1((slf, one))
    }

    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let function = slf.get().function.bind(slf.py());
        if name == "__wrapped__" { Ok(function.clone()) } else { function.getattr(name) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.entered)?;
        visit.call(&self.leave)
    }
}
