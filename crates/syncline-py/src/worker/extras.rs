//! What few calls in worker threads have: somebody who looks at them, and what other libraries want to find in the
//! thread.

use super::inbox::Inbox;
use super::watched::WorkWatch;
use crate::call::outcome::Outcome;
use crate::python::context::{self, Carried};
use crate::python::names;
use crate::python::once::intern;
use crate::python::surroundings::ASGIREF;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::sync::{Mutex, lock};

#[derive(Default)]
pub struct WorkExtras {
    /// anyio's cancel scope around the task that waits, until the function begins.
    pub anyio_scope: Option<Py<PyAny>>,
    pub watch: Option<WorkWatch>,
    /// Whether anyio was told of this thread.
    is_in_anyio: bool,
}

impl WorkExtras {
    /// The function is about to begin, in this thread.
    #[cold]
    pub fn begin(&mut self, py: Python<'_>, inbox: Option<&Arc<Inbox>>) -> PyResult<()> {
        let entered = match self.anyio_scope.take().zip(inbox) {
            Some((scope, inbox)) => self.enter_anyio(py, scope, inbox),
            None => Ok(()),
        };
        self.watch.iter().for_each(WorkWatch::begin);
        entered
    }

    /// It has ended.
    #[cold]
    pub fn end(&mut self, py: Python<'_>, outcome: Option<Outcome>) -> Option<Outcome> {
        if self.is_in_anyio
            && let Err(error) = leave_anyio(py)
        {
            error.write_unraisable(py, None);
        }
        let Some(watch) = self.watch.take() else { return outcome };
        let result = watch.end(py, outcome?.into_result());
        Some(result.map_or_else(Outcome::Raised, Outcome::Returned))
    }

    /// Lets anyio's `from_thread` find its way in this thread.
    fn enter_anyio(&mut self, py: Python<'_>, scope: Py<PyAny>, inbox: &Inbox) -> PyResult<()> {
        let Some(token) = inbox.anyio_token(py)? else { return Ok(()) };
        let locals = names::anyio_thread_locals(py)?;
        locals.setattr(intern!(py, "current_token"), token)?;
        locals.setattr(intern!(py, "current_cancel_scope"), scope)?;
        self.is_in_anyio = true;
        Ok(())
    }
}

/// Takes back what anyio was told of this thread.
fn leave_anyio(py: Python<'_>) -> PyResult<()> {
    let locals = names::anyio_thread_locals(py)?;
    if locals.hasattr(intern!(py, "current_token"))? {
        locals.delattr(intern!(py, "current_token"))?;
        locals.delattr(intern!(py, "current_cancel_scope"))?;
    }
    Ok(())
}

/// Lets the function see asgiref's `Local`s, as it would below `sync_to_async`.
pub fn take_locals_along(py: Python<'_>, carried: &Mutex<Option<Carried>>) -> PyResult<()> {
    if !ASGIREF.is_there(py) {
        return Ok(());
    }
    let context = lock(carried).as_ref().map(|carried| carried.context(py));
    context.map_or(Ok(()), |context| context::move_here(context.bind(py)))
}
