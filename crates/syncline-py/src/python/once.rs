//! Values that are made once, at their first use, and that no fork in another thread leaves half made in the child.
//!
//! PyO3's `PyOnceLock` (and its `intern!`) locks its cell, and then makes the value; in between it lets go of the
//! interpreter. If another thread forks just then, the child waits for that cell for ever: nobody fills it there.
//!
//! Invariants:
//! 1. The value is made first; the cell is locked only while it is stored, by a thread that stays attached. Python's
//!    forks need the interpreter, too, so they find each cell empty or full.
//! 2. Two threads may make the value at once. The one that is stored first stays.

use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::OnceLock;

pub struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.0.get()
    }

    /// Stores the value, unless there is one.
    pub fn set(&self, _py: Python<'_>, value: T) {
        self.store(value);
    }

    pub fn get_or_try_init(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        match self.get(py) {
            Some(value) => Ok(value),
            None => Ok(self.store(make()?)),
        }
    }

    /// The value that is stored now: this one, or that of a thread that was faster.
    #[cold]
    fn store(&self, value: T) -> &T {
        self.0.get_or_init(|| value)
    }
}

/// A `str` that is made once; see `intern!`.
pub struct Name(&'static str, Once<Py<PyString>>);

impl Name {
    pub const fn new(text: &'static str) -> Self {
        Self(text, Once::new())
    }

    pub fn get<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        let known = self.1.get(py);
        known.unwrap_or_else(|| self.1.store(PyString::intern(py, self.0).unbind())).bind(py)
    }
}

/// As PyO3's `intern!`: a `str` for the given literal, which is made once.
macro_rules! intern {
    ($py:expr, $text:literal) => {{
        static NAME: $crate::python::once::Name = $crate::python::once::Name::new($text);
        NAME.get($py)
    }};
}
pub(crate) use intern;
