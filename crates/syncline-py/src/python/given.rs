//! An option that takes whatever it is given, so that the message about a wrong one can name the option: PyO3 names it in
//! a note only.

use pyo3::prelude::*;

pub enum Given<'py, T> {
    Default(T),
    Given(Bound<'py, PyAny>),
}

impl<'py, T> FromPyObject<'_, 'py> for Given<'py, T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Given(object.to_owned()))
    }
}
