//! What a hop between two threads is made of, without Python.
//!
//! A caller puts a job into a runner's [`mailbox`], and waits at a [`slot`] for its result, after a short [`spin`];
//! which runner serves whom is in [`runners`], and [`waits`] sees a circle of waits before it closes. A loop's thread
//! keeps results in its [`outbox`] until it lets go of the interpreter lock, which their takers need, too. From async
//! code to threads, a [`pool`] of threads takes jobs, as many at once as a [`limiter`] allows; in a [`meeting`] a
//! thread hands its result to a loop that spins for it. Who blocks a loop hears of its [`closing`]. A [`register`] lists
//! what goes on, and a [`trace`] writes into a file what the threads do, each in its own [`lane`]. Everything here is
//! safe Rust: [`sync`] swaps `std` for loom, and [`latch`] is the one place that talks to the kernel.

#![forbid(unsafe_code)]

pub mod closing;
pub mod lane;
pub mod latch;
pub mod limiter;
pub mod mailbox;
pub mod meeting;
pub mod outbox;
pub mod pool;
pub mod register;
pub mod runners;
pub mod slot;
pub mod spin;
pub mod stats;
pub mod sync;
pub mod trace;
pub mod trace_events;
pub mod trace_pen;
pub mod waits;
pub mod weak_list;
