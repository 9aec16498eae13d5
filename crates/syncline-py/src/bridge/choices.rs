//! Which values the options of a bridge may have that are words, and which of these go together.

use crate::call::outcome::HAS_TRIO;
use crate::python::errors;
use pyo3::exceptions::{PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// What the word stands for that an option was given.
pub fn choose<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> PyResult<T> {
    let found = choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        PyValueError::new_err(format!("{name} must be one of {}, not {value:?}", words.join(", ")))
    })
}

/// Refuses options that don't go with backend="trio", and a program without trio.
pub fn check_trio(py: Python<'_>, scope: &str, has_loop_factory: bool) -> PyResult<()> {
    if has_loop_factory {
        return Err(PyTypeError::new_err("loop_factory is for asyncio's loops; backend=\"trio\" makes none"));
    }
    if scope == "caller" {
        return Err(PyValueError::new_err(
            "backend=\"trio\" has no scope \"caller\", since a trio run can't be left and entered again; use scope \
             \"process\" or \"thread\"",
        ));
    }
    py.import("trio").map_err(|error| {
        if errors::is_interpreter_gone() {
            return errors::shutting_down();
        }
        let missing = PyImportError::new_err("backend=\"trio\" needs trio: pip install \"syncline[trio]\"");
        errors::from_cause(py, missing, error)
    })?;
    HAS_TRIO.store(true, Relaxed);
    Ok(())
}
