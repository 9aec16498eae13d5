//! Switching: a nested call awaits in place, in the task that its sync caller runs in.
//!
//! A coroutine can only suspend by returning through every frame of its stack, and sync code in between does not return.
//! So tasks run in greenlets, whose whole stack can be left and come back to. [`greenlets`] is greenlet's C API,
//! [`carrier`] the pool, [`strand`] one task's execution, [`nest`] the nested call, [`nestable`] what else runs in one.

pub mod carrier;
pub mod greenlets;
pub mod kinds;
pub mod nest;
pub mod nestable;
pub mod strand;
