//! The core's races, in every order that loom can think of.
//!
//! Run it with `nox -s loom`. Each model says which promise it checks. A wake-up that gets lost shows as a deadlock,
//! which loom reports: nothing here has a timeout that could hide it. Models of two threads run in all orders. Those of
//! three have too many, and are bounded to the orders with few preemptions; LOOM_MAX_PREEMPTIONS sets another bound for
//! all.
//!
//! `nox -s miri` runs the same models with the primitives of `std` and the latch's futex, in one order for each seed.
#![cfg(any(loom, miri))]

mod common;
mod mailbox;
mod runners;
mod tracing;
mod waiting;
mod workers;
