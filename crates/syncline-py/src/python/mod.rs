//! What we need of the interpreter: names that are looked up once, errors, logging, signals, contexts, threads, the
//! state of the process, the list of the loops that live in it and that of waits that take long, the trace, and spans.
//! Nothing here knows what a call is made of: it is given numbers, names and traits.

pub mod asyncgen_hooks;
pub mod attribute;
pub mod collected;
pub mod collecting;
pub mod compiled;
pub mod condition;
pub mod context;
pub mod errors;
pub mod frames;
pub mod given;
pub mod leaky;
pub mod leaving;
pub mod left_behind;
pub mod log;
pub mod long_waits;
pub mod main_end;
pub mod names;
pub mod once;
pub mod per_process;
pub mod process;
pub mod recorded_names;
pub mod recording;
pub mod references;
pub mod residents;
pub mod room;
pub mod signals;
pub mod spans;
pub mod surroundings;
pub mod thread_end;
pub mod threads;
pub mod tracing;
pub mod trio_run;
pub mod version;
