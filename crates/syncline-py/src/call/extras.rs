//! What only some calls have.

use super::home::{Home, LoopOfOthers};
use super::observed::Observed;
use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};
use syncline_core::sync::{Mutex, lock, replace, take};

/// `C` is the call.
pub struct Extras<C> {
    /// The worker thread's job that waits for it: a `Work`, which is defined in a room that this one must not use.
    waiter: OnceLock<Weak<dyn Any + Send + Sync>>,
    /// Whose code has sent it, and where it went from there: an `Origin`, which is defined in a room that this one must not
    /// use.
    origin: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Where it went, if it is not where it was sent.
    home: Mutex<Option<Home<C>>>,
    /// The loop that runs it, if that is somebody else's.
    host: OnceLock<Weak<dyn LoopOfOthers>>,
    /// What was to be run, if the loop has ended before that: a `Target` and a `RunIn`, which is defined in a room that this
    /// one must not use.
    returned: Mutex<Option<Box<dyn Any + Send>>>,
    /// There if a trace was recorded when it was made.
    observed: Option<Observed>,
}

impl<C> Default for Extras<C> {
    fn default() -> Self {
        Self {
            waiter: OnceLock::new(),
            origin: OnceLock::new(),
            home: Mutex::new(None),
            host: OnceLock::new(),
            returned: Mutex::new(None),
            observed: None,
        }
    }
}

impl<C> Extras<C> {
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

    pub fn set_home(&self, home: Home<C>) {
        drop(replace(&self.home, Some(home)));
    }

    pub fn home(&self) -> Option<Home<C>> {
        lock(&self.home).clone()
    }

    pub fn set_host(&self, host: Weak<dyn LoopOfOthers>) {
        let _ = self.host.set(host);
    }

    pub fn host(&self) -> Option<Arc<dyn LoopOfOthers>> {
        self.host.get().and_then(Weak::upgrade)
    }

    /// For whoever waits, who sends it elsewhere.
    pub fn give_back(&self, returned: Box<dyn Any + Send>) {
        drop(replace(&self.returned, Some(returned)));
    }

    pub fn take_back<T: 'static>(&self) -> Option<Box<T>> {
        take(&self.returned)?.downcast().ok()
    }

    pub fn of_observed(observed: Observed) -> Self {
        Self { observed: Some(observed), ..Self::default() }
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }
}
