//! Tasks on a loop: how they are made, stepped, kept waiting between steps, and ended with their loop.

pub mod bridged;
pub mod cancelling;
pub mod closer;
pub mod execution;
pub mod idle;
pub mod loop_cleanup;
pub mod loops;
pub mod making;
pub mod new_loop;
pub mod revival;
pub mod session;
pub mod shown;
pub mod start;
pub mod steps;
