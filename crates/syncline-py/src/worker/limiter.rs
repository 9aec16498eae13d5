//! The limiter that users see.

use super::awaiting::Pending;
use super::limits::{Borrower, Limits, Turn, current_borrower, holds_one_already, key_of, serve};
use super::work::Work;
use crate::coroutine::refused;
use crate::python::errors;
use crate::python::names;
use crate::python::surroundings::is_in_trio_task;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use syncline_core::limiter::Refused;

/// The number that a user gave: as for anyio's limiter an int, or `math.inf` for no limit.
fn total_of(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if let Ok(number) = value.extract::<f64>()
        && number == f64::INFINITY
    {
        return Ok(None);
    }
    let number = value.extract::<i64>().map_err(|_| {
        let kind = errors::type_name(value);
        PyTypeError::new_err(format!("total_tokens must be an int or math.inf, not {kind}"))
    })?;
    let total = usize::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("total_tokens must be 0 or more, not {number}")))?;
    Ok(Some(total))
}

/// How many worker threads may be busy at once.
// No `__traverse__`: it refers to borrowers only until they give their tokens back.
#[pyclass(frozen, subclass, weakref, module = "syncline._core")]
pub struct LimiterBase {
    limits: Arc<Limits>,
}

impl LimiterBase {
    fn here(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        current_borrower(py, is_in_trio_task(py)?)
    }

    fn turn(&self, borrower: Option<Py<PyAny>>) -> Pending {
        Pending::new(Turn::new(&self.limits, borrower))
    }
}

#[pymethods]
impl LimiterBase {
    #[new]
    #[pyo3(signature = (total_tokens))]
    fn new(total_tokens: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { limits: Limits::new(total_of(total_tokens)?) })
    }

    #[getter]
    fn _key(&self) -> usize {
        self.limits.key()
    }

    /// How many may be borrowed at once; can be set at any time. `math.inf` is no limit.
    #[getter]
    fn total_tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.limits.counts().total {
            Some(total) => Ok(total.into_pyobject(py)?.into_any().unbind()),
            None => Ok(f64::INFINITY.into_pyobject(py)?.into_any().unbind()),
        }
    }

    #[setter]
    fn set_total_tokens(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let served = self.limits.tokens().set_total(total_of(value)?);
        serve(py, served);
        Ok(())
    }

    /// How many are borrowed.
    #[getter]
    fn borrowed_tokens(&self) -> usize {
        self.limits.counts().borrowed
    }

    /// How many can be borrowed before somebody has to wait.
    #[getter]
    fn available_tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let counts = self.limits.counts();
        match counts.total {
            // Less than zero if the total was lowered while more were borrowed.
            Some(total) => {
                let available = i128::try_from(total).unwrap_or(i128::MAX) - counts.borrowed as i128;
                Ok(available.into_pyobject(py)?.into_any().unbind())
            }
            None => Ok(f64::INFINITY.into_pyobject(py)?.into_any().unbind()),
        }
    }

    /// The counts, the borrowers and how many wait, at one moment.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tokens = self.limits.tokens();
        let borrowers = tokens.borrowers(|borrower| match borrower {
            Borrower::Claim(claim) => Err(Arc::clone(claim)),
            Borrower::Object(object) => Ok(object.clone_ref(py)),
        });
        let shown = borrowers.into_iter().map(|borrower| borrower.unwrap_or_else(|claim| claim.shown(py)));
        let shown = PyTuple::new(py, shown.collect::<Vec<_>>())?;
        let waiting = tokens.counts().waiting;
        names::limiter_statistics(py)?.call1((shown.len(), self.total_tokens(py)?, shown, waiting))
    }

    /// Takes a token for the current task, or raises `WouldBlock`.
    fn acquire_nowait(&self, py: Python<'_>) -> PyResult<()> {
        let borrower = self.here(py)?;
        self.acquire_on_behalf_of_nowait(py, borrower)
    }

    /// Takes a token for `borrower`, or raises `WouldBlock`.
    fn acquire_on_behalf_of_nowait(&self, py: Python<'_>, borrower: Py<PyAny>) -> PyResult<()> {
        let key = key_of(borrower.bind(py));
        match self.limits.tokens().acquire_nowait(key, Borrower::Object(borrower)) {
            Ok(()) => Ok(()),
            Err(Refused::HasOne(_)) => Err(holds_one_already()),
            Err(Refused::NoneLeft(_)) => Err(PyErr::from_value(names::would_block(py)?.call0()?)),
        }
    }

    fn _acquire(&self) -> Pending {
        self.turn(None)
    }

    fn _acquire_on_behalf_of(&self, borrower: Py<PyAny>) -> Pending {
        self.turn(Some(borrower))
    }

    /// Gives the current task's token back.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let borrower = self.here(py)?;
        self.release_on_behalf_of(py, &borrower.into_bound(py))
    }

    /// Gives the token of `borrower` back.
    fn release_on_behalf_of(&self, py: Python<'_>, borrower: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((held, waiters)) = self.limits.tokens().release(&key_of(borrower)) else {
            return Err(PyRuntimeError::new_err("this borrower holds none of the limiter's tokens"));
        };
        drop(held);
        serve(py, waiters);
        Ok(())
    }

    /// The call of `fn` in a worker, as an awaitable.
    #[pyo3(signature = (r#fn, args, kwargs))]
    fn _call(
        &self,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Pending> {
        in_worker(&self.limits, r#fn, args, kwargs)
    }

    fn __repr__(&self) -> String {
        let counts = self.limits.counts();
        let total = counts.total.map_or_else(|| "inf".to_owned(), |total| total.to_string());
        format!("<syncline.ThreadLimiter, {} of {total} tokens borrowed>", counts.borrowed)
    }
}

/// The call of a sync function in a worker thread with a token of these, as an awaitable.
pub fn in_worker(
    limits: &Arc<Limits>,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Pending> {
    refused::async_in_a_thread("to_thread", function)?;
    Ok(Pending::new(Work::new(limits, function, args, kwargs)))
}
