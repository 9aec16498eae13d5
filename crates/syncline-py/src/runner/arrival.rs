//! What another thread sends to a loop, to be dealt with on the loop's thread.

use pyo3::prelude::*;

pub trait Arrival: Send + Sync {
    /// It has come; called on the loop's thread.
    fn arrive(&self, py: Python<'_>);
    /// It will never come, as the loop is gone; called on any thread.
    fn be_lost(&self, py: Python<'_>);
}
