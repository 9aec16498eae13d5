//! What async code on another loop awaits of a buffer of items that are fetched ahead.

use super::binding::Binding;
use super::buffer::{Buffer, Expected};
use crate::bridge::remote::GoesOn;
use crate::call::state::Call;
use crate::python::errors;
use crate::python::signals;
use crate::runner::state::Runner;
use crate::worker::awaiting::Pending;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use std::sync::Arc;

struct There {
    buffer: Arc<Buffer>,
    binding: Arc<Binding>,
    expected: Expected,
}

/// What it awaits for the next item.
pub fn item_there(buffer: &Arc<Buffer>, binding: &Arc<Binding>) -> Pending {
    there(buffer, binding, Expected::Item)
}

/// The same for the end of the producer, which is asked to stop. `None` if there is no producer.
pub fn stop_there(py: Python<'_>, buffer: &Arc<Buffer>, binding: &Arc<Binding>) -> Option<Pending> {
    let runner = binding.runner().filter(|_| buffer.has_producer())?;
    buffer.ask_to_stop(py, runner);
    Some(there(buffer, binding, Expected::End))
}

fn there(buffer: &Arc<Buffer>, binding: &Arc<Binding>, expected: Expected) -> Pending {
    let (buffer, held) = (Arc::clone(buffer), Arc::clone(binding));
    binding.shared.remote_result(Arc::new(There { buffer, binding: held, expected }))
}

impl GoesOn for There {
    fn runner(&self) -> PyResult<&Arc<Runner>> {
        self.binding.runner().ok_or_else(errors::shutting_down)
    }

    fn wait_by(&self, py: Python<'_>, call: &Arc<Call>) -> bool {
        if let Err(error) = self.buffer.follow(py, &self.binding, call) {
            signals::keep_unless_exception(py, error);
        }
        self.buffer.tell(py, call, self.expected)
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.expected {
            Expected::End => Ok(py.None()),
            Expected::Item => {
                self.buffer.take_there(py, &self.binding).unwrap_or_else(|| Err(PyStopAsyncIteration::new_err(())))
            }
        }
    }
}
