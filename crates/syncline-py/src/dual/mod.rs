//! Objects that serve both worlds: `await` and `run`, `async for` and `for`, `async with` and `with`.
//!
//! In an async program nothing of ours is in between: the user's object is awaited, iterated, entered as it is. In sync
//! code its steps are made in one session of a bridge, opened with the first step.
//!
//! Invariants:
//! 1. An object is used in one world only, by one thread at a time; anything else is an error that says so.
//! 2. Whatever ends the use in sync code (the last item, `close`, an error, being dropped) ends the session, and with it
//!    the generator, on its own loop.

mod binding;
pub mod buffer;
pub mod coroutine;
pub mod generator;
pub mod iterator;
pub mod manager;
mod usage;
mod wrapped;
