//! Whether a thread drives its own loop at the moment, so that nested calls find it, and others leave it alone.

use crate::switch::nest::{self, Driving};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

pub struct Busy {
    is_so: AtomicBool,
    driving: Driving,
}

impl Busy {
    pub const fn new(driving: Driving) -> Self {
        Self { is_so: AtomicBool::new(false), driving }
    }

    pub fn is_so(&self) -> bool {
        self.is_so.load(SeqCst)
    }

    /// While what this returns lives, the loop is busy.
    pub fn begin(&self) -> While<'_> {
        // Before the loop looks whether it is to close: a close by another thread sees that the loop is busy, or the
        // loop sees the close.
        self.is_so.store(true, SeqCst);
        While(self, nest::drive(self.driving))
    }

    /// While what this returns lives, the loop is not driven, though a call is under way: its thread runs an errand for
    /// that call.
    pub fn rest(&self) -> AtRest<'_> {
        self.is_so.store(false, SeqCst);
        nest::drive(Driving::Foreign);
        AtRest(self)
    }
}

pub struct While<'a>(&'a Busy, Driving);

impl Drop for While<'_> {
    fn drop(&mut self) {
        // Before `execute_at` reads the bridge's `closed`: either we see the close there and end the loop, or the close
        // sees that the loop is not busy, and does not wait for it.
        self.0.is_so.store(false, SeqCst);
        nest::drive(self.1);
    }
}

pub struct AtRest<'a>(&'a Busy);

impl Drop for AtRest<'_> {
    fn drop(&mut self) {
        self.0.is_so.store(true, SeqCst);
        nest::drive(self.0.driving);
    }
}
