//! What all parts of a bridge share: its options, its loops, its counters.
//!
//! Invariants:
//! 1. In a forked child a bridge begins anew, without runners.
//! 2. Until a bridge is used first, its options may be replaced; from then on they stay.
//! 3. A bridge that roams has a second set of options, by which calls stay on its loops: for objects that live there.

use super::caller_loop::CallerLoop;
use crate::call::wait::Patience;
use crate::python::errors;
use crate::python::per_process::PerProcessPart;
use crate::runner::registry::Registry;
use crate::runner::state::Runner;
use crate::switch::nest::Terms;
use pyo3::prelude::*;
use std::sync::atomic::Ordering::{Acquire, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use syncline_core::stats::Histogram;
use syncline_core::sync::{Mutex, lock};
use syncline_core::weak_list::WeakList;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process,
    Thread,
    Caller,
}

/// What happens to a call that blocks a loop which is no bridge's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InLoop {
    Block,
    Warn,
    Error,
}

/// Where dual objects run that async code uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InAsync {
    Task,
    Home,
}

/// Whether there has been a bridge with `InAsync::Home`. Others need not be asked as long as there was none.
pub static ANY_BRINGS_HOME: AtomicBool = AtomicBool::new(false);

/// What each call asks of its bridge first, by one look.
pub struct BridgeState(AtomicU8);

impl BridgeState {
    pub const CLOSED: u8 = 1;
    /// How long its calls take is measured.
    pub const TIMED: u8 = 2;
    /// A trace is recorded, or spans are made.
    pub const OBSERVED: u8 = 4;

    fn new(bits: u8) -> Self {
        Self(AtomicU8::new(bits))
    }

    pub fn set(&self, bit: u8, to: bool) {
        if to {
            self.0.fetch_or(bit, SeqCst);
        } else {
            self.0.fetch_and(!bit, SeqCst);
        }
    }

    fn has(&self, bit: u8) -> bool {
        self.0.load(Acquire) & bit != 0
    }
}

pub struct Shared {
    pub terms: Terms,
    pub name: String,
    pub scope: Scope,
    pub nested_is_error: bool,
    pub in_loop: InLoop,
    pub in_async: InAsync,
    /// Whether a call in a worker thread runs on the loop that sent the worker.
    pub joins_sender: bool,
    /// The runner onto a loop of somebody else's, of a bridge that has no others.
    pub attached: Option<Arc<Runner>>,
    /// Whether the interpreter's tools see its tasks.
    pub is_visible: bool,
    pub loop_factory: Option<Arc<Py<PyAny>>>,
    pub cleanup: Duration,
    pub stall_after: Option<Duration>,
    /// By reference, as by 3 the same loops may have two sets of options.
    pub loops: Arc<Loops>,
}

/// The loops of a bridge.
pub struct Loops {
    pub state: BridgeState,
    /// How long callers waited for what ran on its runners. Only if its user asked for that.
    pub hops: Option<Histogram>,
    pub registry: PerProcessPart<Registry>,
    /// Runners whose threads were started, and that the registry may not have yet.
    pub starting: WeakList<Runner>,
    /// Runners that `close` has told to end.
    pub closing: Mutex<Vec<Arc<Runner>>>,
    /// Scope "caller": the threads' own loops.
    pub own: WeakList<CallerLoop>,
}

impl Loops {
    /// None yet. `timed` says whether it is measured how long calls take.
    pub fn new(timed: bool) -> Self {
        Self {
            state: BridgeState::new(if timed { BridgeState::TIMED } else { 0 }),
            hops: timed.then(Histogram::default),
            registry: PerProcessPart::new(Registry::new()),
            starting: WeakList::default(),
            closing: Mutex::default(),
            own: WeakList::default(),
        }
    }
}

/// Keeps the bridge's loops alive. The object that users have holds one, and so does each call of `submit` until it
/// ends. When the last one is dropped, the loops end.
pub struct Hold {
    /// Filled from `planned` by the first use (by 2).
    used: OnceLock<Arc<Shared>>,
    planned: Mutex<Arc<Shared>>,
    /// The second set of options (by 3), once somebody has asked for it.
    home: OnceLock<Arc<Shared>>,
}

impl Hold {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { used: OnceLock::new(), planned: Mutex::new(shared), home: OnceLock::new() }
    }

    /// What the bridge works with. Whoever asks for it uses the bridge.
    pub fn shared(&self) -> &Arc<Shared> {
        self.used.get().unwrap_or_else(|| {
            // The lock is held until `used` is filled: nobody replaces what has just been read.
            let planned = lock(&self.planned);
            self.used.get_or_init(|| Arc::clone(&planned))
        })
    }

    /// The same for calls that stay on the bridge's loops (by 3).
    pub fn home(&self) -> &Arc<Shared> {
        let shared = self.shared();
        if shared.terms.roams { self.home.get_or_init(|| Arc::new(shared.staying_home())) } else { shared }
    }

    /// The same to look at, which is no use.
    pub fn look(&self) -> Arc<Shared> {
        Arc::clone(self.used.get().unwrap_or(&lock(&self.planned)))
    }

    /// How many references it has itself to what `look` returns.
    pub fn references(&self) -> usize {
        1 + usize::from(self.used.get().is_some())
    }

    /// Takes the place of what was planned. Gives it back if the bridge has been used (by 2).
    pub fn plan(&self, shared: Arc<Shared>) -> Result<(), Arc<Shared>> {
        let mut planned = lock(&self.planned);
        if self.used.get().is_some() {
            return Err(shared);
        }
        let old = std::mem::replace(&mut *planned, shared);
        drop(planned);
        drop(old);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(shared) = self.used.get() else { return };
        // Nobody can call the bridge any more. Its threads end, and nobody waits for that.
        errors::in_destructor(|py| {
            if !shared.is_closed() {
                shared.close_when_dropped(py);
            }
        });
    }
}

impl Shared {
    /// The same bridge by the options of one that does not roam, and whose calls in workers are not the sender's.
    fn staying_home(&self) -> Self {
        Self {
            terms: self.terms.staying_home(),
            name: self.name.clone(),
            joins_sender: false,
            attached: self.attached.clone(),
            loop_factory: self.loop_factory.clone(),
            loops: Arc::clone(&self.loops),
            ..*self
        }
    }

    pub fn registry(&self) -> Arc<Registry> {
        // By 1.
        self.loops.registry.get(|_| Registry::new())
    }

    pub fn is_closed(&self) -> bool {
        self.loops.state.has(BridgeState::CLOSED)
    }

    /// Whether nothing but the call itself has to be seen to: the bridge is open, and nobody looks at its calls.
    pub fn is_plain(&self) -> bool {
        self.loops.state.0.load(Acquire) == 0
    }

    pub fn patience(&self, timeout: Option<Duration>) -> Patience {
        Patience { begun: Instant::now(), timeout, cleanup: self.cleanup, stall_after: self.stall_after }
    }
}
