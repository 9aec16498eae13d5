//! One call, as both sides of a hop know it, and the one wait.

pub mod ends;
pub mod outcome;
pub mod state;
pub mod stepping;
pub mod wait;
pub mod waiter;
