//! Async code to threads and back: worker threads, their limits, and the inbox where their results come home.

pub mod awaiting;
pub mod behind;
pub mod errand;
mod extras;
pub mod from_thread;
pub mod inbox;
mod late;
pub mod limiter;
pub mod limits;
pub mod loop_end;
pub mod marks;
pub mod notice;
pub mod own_thread;
mod waits;
pub mod watched;
pub mod work;
pub mod workers;
