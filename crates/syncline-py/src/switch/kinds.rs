//! Which classes of coroutines of ours may run in strands.
//!
//! Some of the classes live in rooms that this one must not use. So they are entered here, by `fill`, when the
//! extension is imported.

use crate::python::once::Once;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Tells strands apart: a strand's address, which is its own for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StrandId(pub usize);

/// A class of coroutines that tasks of ours run.
pub struct Kind {
    pub class: Py<PyType>,
    /// Whether what such a coroutine runs at the moment runs in this strand.
    pub runs_in: fn(&Bound<'_, PyAny>, StrandId) -> bool,
    /// Whether its steps are made in a strand.
    pub nests: fn(&Bound<'_, PyAny>) -> bool,
    /// Whether a nested call is suspended in such a coroutine.
    pub is_nested: fn(&Bound<'_, PyAny>) -> bool,
}

static KINDS: Once<Vec<Kind>> = Once::new();

pub fn fill(py: Python<'_>, kinds: Vec<Kind>) {
    KINDS.set(py, kinds);
}

/// The kind of a coroutine, if it is one of ours.
pub fn of<'py>(coroutine: &Bound<'py, PyAny>) -> Option<&'py Kind> {
    let class = coroutine.get_type();
    KINDS.get(coroutine.py())?.iter().find(|kind| class.is(&kind.class))
}
