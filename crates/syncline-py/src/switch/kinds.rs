//! Which coroutines of ours may run in strands. The classes live in rooms above; they are entered here at the import.

use crate::python::once::Once;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Which strand: its address, for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StrandId(pub usize);

/// A class of coroutines that tasks of ours run.
pub struct Kind {
    pub class: Py<PyType>,
    /// Whether what such a coroutine does at the moment is done in this strand.
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
