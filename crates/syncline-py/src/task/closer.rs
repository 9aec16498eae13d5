//! What is left to be done for a session that is open when its loop ends.

use crate::call::outcome::cancelled_here;
use crate::coroutine::target::Target;
use crate::python::once::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};

/// What a loop that shuts down does about a session that is still open.
pub enum Closer {
    Nothing,
    /// `aclose()` of a generator that can't be referred to weakly.
    Close(Py<PyAny>),
    /// `aclose()` of any other generator. It may refer to the dual object that iterates over it, and the session
    /// belongs to that object: with a strong reference here, neither would ever be dropped.
    CloseIfAlive(Py<PyWeakrefReference>),
    /// The last step of a session whose object was dropped where that step could not be made.
    Last(Target),
    /// `__aexit__` of a manager, as if the body had been cancelled.
    Leave(Py<PyAny>),
}

impl Closer {
    /// `aclose()` of that generator.
    pub fn close(generator: &Bound<'_, PyAny>) -> Self {
        match PyWeakrefReference::new(generator) {
            Ok(reference) => Self::CloseIfAlive(reference.unbind()),
            Err(_) => Self::Close(generator.clone().unbind()),
        }
    }

    /// What is to be done. An error that says that it can't be done is reported.
    pub fn target_or_report(self, py: Python<'_>) -> Option<Target> {
        self.target(py).unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            None
        })
    }

    fn target(self, py: Python<'_>) -> PyResult<Option<Target>> {
        let close = |generator: &Bound<'_, PyAny>| {
            let function = generator.getattr(intern!(py, "aclose"))?.unbind();
            Ok(Some(Target::Step { function, args: PyTuple::empty(py).unbind() }))
        };
        match self {
            Self::Nothing => Ok(None),
            Self::Last(target) => Ok(Some(target)),
            Self::Close(generator) => close(generator.bind(py)),
            Self::CloseIfAlive(generator) => generator.bind(py).upgrade().map_or(Ok(None), |alive| close(&alive)),
            Self::Leave(manager) => {
                let function = manager.getattr(py, intern!(py, "__aexit__"))?;
                let cancelled = cancelled_here(py).into_value(py);
                let args = (cancelled.bind(py).get_type(), &cancelled, py.None()).into_pyobject(py)?.unbind();
                Ok(Some(Target::Step { function, args }))
            }
        }
    }
}
