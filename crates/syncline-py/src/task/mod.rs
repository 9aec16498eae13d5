//! Tasks on a loop: how they are made, stepped, kept waiting between steps, and ended with their loop.

pub mod bridged;
pub mod cancelling;
pub mod closer;
mod copies;
pub mod execution;
mod fresh;
pub mod generators;
pub mod idle;
pub mod loop_cleanup;
pub mod loops;
pub mod making;
pub mod new_loop;
pub mod reuse;
pub mod revival;
pub mod session;
pub mod session_task;
pub mod shown;
pub mod spare;
pub mod spare_sessions;
pub mod start;
pub mod starting;
pub mod steps;
