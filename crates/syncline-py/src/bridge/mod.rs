//! What users hold: a bridge's options, the choice of a loop, the calling thread's own loop, calls that nobody waits
//! for.

pub mod blocking;
mod busy;
pub mod caller_loop;
mod caller_loop_seen;
mod choices;
mod closing;
pub mod decided;
mod execution;
pub mod last_loop;
pub mod loops_of_thread;
pub mod observing;
pub mod options;
pub mod placement;
pub mod remote;
pub mod shared;
mod standing_in;
pub mod submitted;
