//! One call, as both sides of a hop know it ([`state`], [`outcome`]), and the one wait for it and for all else
//! ([`wait`]).

pub mod caller;
pub mod ends;
pub mod errands;
mod extras;
mod handing;
pub mod heard;
pub mod home;
pub mod observed;
pub mod outcome;
pub mod outer;
pub mod state;
pub mod stepping;
pub mod stops;
pub mod taker;
mod views;
pub mod wait;
pub mod waiter;
pub mod waiting_tasks;
pub mod watched;
