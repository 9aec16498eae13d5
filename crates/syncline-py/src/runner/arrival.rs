//! What another thread sends to a loop, to be seen to on the loop's thread.

use pyo3::prelude::*;

pub trait Arrival: Send + Sync {
    /// On the loop's thread.
    fn arrive(&self, py: Python<'_>);
    /// The loop is gone.
    fn be_lost(&self, py: Python<'_>);
}
