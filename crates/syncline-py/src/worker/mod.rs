//! Async code to threads and back: worker threads, their limits, and the inbox where their results come home.

pub mod awaiting;
pub mod errand;
pub mod from_thread;
pub mod inbox;
mod late;
pub mod limiter;
pub mod limits;
pub mod marks;
pub mod notice;
pub mod own_thread;
pub mod watched;
pub mod work;
pub mod workers;
