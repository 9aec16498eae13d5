//! What we need of the interpreter: names that are looked up once, errors, logging, signals, contexts, threads, the
//! state of the process, and the list of the loops that live in it. Nothing here knows of calls.

pub mod collected;
pub mod collecting;
pub mod condition;
pub mod context;
pub mod errors;
pub mod leaky;
pub mod log;
pub mod long_waits;
pub mod main_end;
pub mod names;
pub mod once;
pub mod per_process;
pub mod process;
pub mod residents;
pub mod signals;
pub mod spans;
pub mod surroundings;
pub mod thread_end;
pub mod threads;
pub mod tracing;
