//! What we need of the interpreter: names looked up once, errors, signals, contexts, threads, the process. Knows no call and no loop.

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
pub mod surroundings;
pub mod thread_end;
pub mod threads;
