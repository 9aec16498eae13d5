//! What only some calls have.

use super::observed::Observed;
use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

#[derive(Default)]
pub struct Extras {
    /// The worker thread's job that waits for it: a `Work`, which is defined in a room that this one must not use.
    waiter: OnceLock<Weak<dyn Any + Send + Sync>>,
    /// Whose code has sent it, and where it went from there: an `Origin`, which is defined in a room that this one must not
    /// use.
    origin: OnceLock<Box<dyn Any + Send + Sync>>,
    /// There if a trace was recorded when it was made.
    observed: Option<Observed>,
}

impl Extras {
    /// Only the first time counts.
    pub fn set_waiter(&self, waiter: Weak<dyn Any + Send + Sync>) {
        let _ = self.waiter.set(waiter);
    }

    pub fn has_waiter(&self) -> bool {
        self.waiter.get().is_some()
    }

    pub fn waiter(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.waiter.get().and_then(Weak::upgrade)
    }

    pub fn set_origin(&self, origin: Box<dyn Any + Send + Sync>) {
        let _ = self.origin.set(origin);
    }

    pub fn origin(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.origin.get().map(|origin| &**origin)
    }

    pub fn of_observed(observed: Observed) -> Self {
        Self { observed: Some(observed), ..Self::default() }
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }
}
