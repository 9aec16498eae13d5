//! What others see of a call who know no more of it: that it can be told of, roused and published.

use super::state::Call;
use crate::python::long_waits::Subject;
use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::closing::Rouse;
use syncline_core::outbox::Publish;

impl Subject for Call {
    fn loop_name(&self) -> Arc<str> {
        self.runner_name()
    }

    fn suspended_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.task(py)
    }
}

impl Rouse for Call {
    fn rouse(&self) {
        self.slot.rouse();
    }
}

impl Publish for Call {
    fn publish(&self) {
        self.slot.publish();
    }
}
