//! A loop on a thread of its own.

pub mod end;
#[cfg(target_os = "linux")]
pub mod selector;
pub mod state;
