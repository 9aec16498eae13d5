//! A loop on a thread of its own.

pub mod arrival;
pub mod attached;
pub mod end;
mod feeding;
pub mod hop;
pub mod key;
mod lookout;
pub mod moving;
pub mod nodes;
pub mod registry;
#[cfg(target_os = "linux")]
pub mod selector;
pub mod stalls;
pub mod state;
pub mod thread;
pub mod turns;
#[cfg(unix)]
mod uv;
#[cfg(unix)]
mod uv_feeder;
pub mod watch;
mod watched;
