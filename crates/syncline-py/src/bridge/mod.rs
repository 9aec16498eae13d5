//! What users hold: options, the choice of a loop, the calling thread's own loop, calls that nobody waits for.

pub mod caller_loop;
pub mod options;
pub mod placement;
pub mod submitted;
