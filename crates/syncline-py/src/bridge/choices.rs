//! Which values the options of a bridge may have that are words, and which of these go together.

use crate::call::outcome::HAS_TRIO;
use crate::python::errors;
use crate::python::given::Given;
use crate::python::signals;
use pyo3::exceptions::{PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// What an option was given that is to be a word.
pub type Word<'py> = Given<'py, &'static str>;

impl Word<'_> {
    /// The word; None if it is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Default(word) => Some(word),
            Self::Given(given) => given.extract().ok(),
        }
    }

    /// What it is, for a message.
    fn described(&self) -> String {
        match (self, self.text()) {
            (_, Some(word)) => format!("{word:?}"),
            (Self::Given(given), None) => signals::repr_of(given),
            (Self::Default(_), None) => String::new(),
        }
    }
}

/// What an option was given that is to be true or false.
pub type Flag<'py> = Given<'py, bool>;

impl Flag<'_> {
    pub fn get(&self, name: &str) -> PyResult<bool> {
        let given = match self {
            Self::Default(flag) => return Ok(*flag),
            Self::Given(given) => given,
        };
        given.extract().map_err(|_| {
            let given = signals::repr_of(given);
            PyTypeError::new_err(format!("{name} must be True or False, not {given}"))
        })
    }
}

/// What the word stands for that an option was given.
pub fn choose<T: Copy>(name: &str, given: &Word<'_>, choices: &[(&str, T)]) -> PyResult<T> {
    let value = given.text();
    let found = choices.iter().find(|(word, _)| Some(*word) == value).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        let message = format!("{name} must be one of {}, not {}", words.join(", "), given.described());
        if value.is_some() { PyValueError::new_err(message) } else { PyTypeError::new_err(message) }
    })
}

/// The name that a bridge was given.
pub fn name_given(given: Option<&Word<'_>>) -> PyResult<String> {
    let Some(given) = given else { return Ok("syncline".to_owned()) };
    let name = given.text().map(str::to_owned);
    name.ok_or_else(|| PyTypeError::new_err(format!("name must be a string, not {}", given.described())))
}

/// Refuses options that don't go with backend="trio", and a program without trio.
pub fn check_trio(py: Python<'_>, scope: &Word<'_>, has_loop_factory: bool) -> PyResult<()> {
    if has_loop_factory {
        return Err(PyTypeError::new_err("loop_factory is for asyncio's loops; backend=\"trio\" makes none"));
    }
    if scope.text() == Some("caller") {
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
