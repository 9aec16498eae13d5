//! Sessions that are over and whose tasks have not been told yet.
//!
//! To be told costs a turn of the loop, with the interpreter held, just when the caller of the last step wants to have
//! it. So it waits until the loop has a turn to make anyway, has nothing to do for a while, or there are many.

use crate::session::Session;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::sync::{Mutex, lock};

/// For so long a loop with retired sessions sleeps, before it ends them.
pub const WHILE: Duration = Duration::from_millis(1);
const MANY: usize = 64;

#[derive(Default)]
pub struct Retired(Mutex<Vec<Arc<Session>>>);

impl Retired {
    pub fn add(&self, session: Arc<Session>) {
        lock(&self.0).push(session);
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    pub fn are_many(&self) -> bool {
        lock(&self.0).len() >= MANY
    }

    /// Tells them all.
    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        let retired = std::mem::take(&mut *lock(&self.0));
        retired.iter().try_for_each(|session| session.end(py))
    }
}
