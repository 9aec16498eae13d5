//! When a task can be used again: if nothing tells that it was used.
//!
//! Invariants:
//! 1. Nobody has a reference to it, to its coroutine or to its context, or a weak one; it has no callback, no
//!    cancellation and no attribute. Its name is each use's own.
//! 2. Where people make tasks their own affair, by a task factory, in debug mode or by `visible`, none is used again.

use super::loops;
use crate::python::attribute::Attribute;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::references;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// Where a task shows that it was used.
struct Marks {
    /// Nothing as long as nobody has set anything.
    nothing: Vec<Attribute>,
    must_cancel: Attribute,
}

impl Marks {
    /// `None` if tasks are not those that asyncio has in C.
    fn of_tasks(py: Python<'_>) -> PyResult<Option<&Self>> {
        static KNOWN: Once<Option<Marks>> = Once::new();
        let find = || {
            let class = names::task(py)?.cast::<PyType>()?;
            let of = |attribute| Attribute::of(class, attribute);
            let (Some(callbacks), Some(message), Some(must_cancel)) =
                (of(c"_callbacks"), of(c"_cancel_message"), of(c"_must_cancel"))
            else {
                return Ok(None);
            };
            // The last one is there from Python 3.14 on.
            let nothing = [callbacks, message].into_iter().chain(of(c"_asyncio_awaited_by")).collect();
            Ok(Some(Self { nothing, must_cancel }))
        };
        KNOWN.get_or_try_init(py, find).map(Option::as_ref)
    }

    fn are_on(&self, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        for mark in &self.nothing {
            if !mark.get(task)?.is_none() {
                return Ok(true);
            }
        }
        self.must_cancel.get(task)?.is_truthy()
    }
}

/// Whether the loop's tasks can be used again (by 2).
pub fn is_possible(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    Ok(loops::makes_plain_tasks(event_loop) && references::counts_are_exact(py)? && Marks::of_tasks(py)?.is_some())
}

/// How many references there are that are ours.
pub struct OurReferences {
    pub task: isize,
    pub coroutine: isize,
    pub context: isize,
}

/// By 1, in a loop of which `is_possible` is true.
pub fn is_as_new<C>(
    task: &Bound<'_, PyAny>,
    coroutine: &Bound<'_, C>,
    context: &Bound<'_, PyAny>,
    ours: &OurReferences,
) -> PyResult<bool> {
    let Some(marks) = Marks::of_tasks(task.py())? else { return Ok(false) };
    let is_kept = !references::are_exactly(task, ours.task)
        || !references::are_exactly(coroutine, ours.coroutine)
        || !references::are_exactly(context, ours.context);
    Ok(!is_kept && !references::has_attributes(task) && !marks.are_on(task)?)
}

/// The names of a task's uses (by 1): the first one keeps the name that asyncio has given.
pub struct UseNames {
    stem: String,
    uses: u32,
}

impl UseNames {
    /// `None` for a task that has a name from somebody else.
    pub fn of(task: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let name = task.call_method0(intern!(task.py(), "get_name"))?;
        let name = name.cast::<PyString>()?.to_cow()?;
        let is_asyncios = name.strip_prefix("Task-").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        Ok(is_asyncios.then(|| Self { stem: format!("{name}."), uses: 0 }))
    }

    /// How often the task was used.
    pub fn uses(&self) -> u32 {
        self.uses
    }

    /// The task is used, and has the name of that.
    pub fn give_next(&mut self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.uses = self.uses.saturating_add(1);
        if self.uses == 1 {
            return Ok(());
        }
        let length = self.stem.len();
        push_number(&mut self.stem, self.uses);
        let name = PyString::new(task.py(), &self.stem);
        self.stem.truncate(length);
        names::set_task_name(task.py())?.call1((task, name)).map(drop)
    }
}

/// As `write!`, which costs more than all the rest that a name does.
fn push_number(text: &mut String, number: u32) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}
