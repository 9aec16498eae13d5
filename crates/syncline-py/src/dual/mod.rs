//! Objects that serve both worlds: `await` and `run`, `async for` and `for`, `async with` and `with`.
//!
//! In async code nothing of ours is in between: the user's object itself is awaited, iterated over, entered. In sync
//! code all its steps are made in one session of a bridge, which is opened with the first step.
//!
//! Invariants:
//! 1. An object is used in one world only, sync or async, and by one thread at a time. Anything else raises an error.
//! 2. Whatever ends the use in sync code (the last item, `close`, an error, being dropped) ends the session, and with
//!    it the generator, on its own loop.

mod ahead;
mod binding;
pub mod buffer;
pub mod coroutine;
pub mod generator;
pub mod iterator;
pub mod manager;
mod usage;
mod wrapped;
