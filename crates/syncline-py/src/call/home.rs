//! The runner that a call is for, as the call knows it.

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
