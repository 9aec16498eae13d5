//! One call, as both sides of a hop know it, and the one wait.

pub mod outbox;
pub mod state;
pub mod wait;
