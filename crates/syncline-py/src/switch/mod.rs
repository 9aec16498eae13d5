//! Switching: a nested call awaits in place, in the task that its sync caller runs in.
//!
//! A coroutine can only suspend by returning through every frame of its stack, and sync code in between does not
//! return. So the steps of tasks are made in greenlets, whose whole stack can be left and come back to. [`greenlets`]
//! is greenlet's C API, [`carrier`] the pool of greenlets, [`strand`] one task's execution, [`stepper`] where that is
//! stepped, [`parked`] a stack that it has left, [`nest`] the nested call. [`nestable`] runs tasks that are no call of
//! a bridge's in strands, and [`kinds`] knows the classes of coroutines that may run in one. [`aside`] serves asyncio's
//! own functions, where `syncline.compat.nest_asyncio` lets them nest.

pub mod aside;
pub mod carrier;
pub mod greenlets;
pub mod kinds;
pub mod nest;
pub mod nestable;
pub mod parked;
pub mod stepper;
pub mod strand;
