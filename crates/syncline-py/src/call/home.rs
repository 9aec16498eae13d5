//! The runner that a call is for, as the call knows it.

use pyo3::prelude::*;
use std::sync::Arc;
use syncline_core::closing::Closing;

/// `C` is the call.
pub struct Home<C> {
    /// The runner's.
    pub name: Arc<str>,
    /// Whether its loop is being closed, and the nested calls that block it.
    pub closing: Arc<Closing<C>>,
}

impl<C> Clone for Home<C> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), closing: Arc::clone(&self.closing) }
    }
}

/// A loop that somebody else runs.
pub trait LoopOfOthers: Send + Sync {
    fn runs(&self, py: Python<'_>) -> bool;
    /// The error for a call that it has not ended.
    fn gone(&self, py: Python<'_>) -> PyErr;
}
