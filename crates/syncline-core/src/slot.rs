//! A slot holds one result, for one caller.
//!
//! With a channel, sending the result and waking the caller are one step. Here they are two: a loop's thread fills
//! the slot in the step in which a coroutine ends, and publishes it when it lets go of the interpreter. A caller that
//! was woken earlier would only collide with a thread that still holds it.
//!
//! Invariants:
//! 1. Whoever fills first wins; a later value is handed back.
//! 2. The latch opens only after the slot was filled.
//! 3. A filled slot may be taken before it is published: a caller that looks without being woken gets what is there.

use crate::latch::{Latch, Waited};
use crate::sync::{Mutex, lock};
use std::time::Duration;

#[derive(Debug)]
enum State<T> {
    Empty,
    Filled(T),
    Taken,
}

#[derive(Debug)]
pub struct Slot<T> {
    state: Mutex<State<T>>,
    published: Latch,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State::Empty), published: Latch::new() }
    }
}

impl<T> Slot<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the result without waking anyone; gives it back if there is one already.
    pub fn fill(&self, value: T) -> Result<(), T> {
        let mut state = lock(&self.state);
        match *state {
            State::Empty => {
                *state = State::Filled(value);
                Ok(())
            }
            State::Filled(_) | State::Taken => Err(value),
        }
    }

    /// Wakes the caller. By 2 it is to be called after `fill`.
    pub fn publish(&self) {
        self.published.open();
    }

    /// Whether a wait would come back at once: the result is published, or the caller was roused.
    pub fn is_stirred(&self) -> bool {
        self.published.is_stirred()
    }

    /// Has the caller look up from its wait, or from its next one, though there is no result.
    pub fn rouse(&self) {
        self.published.rouse();
    }

    pub fn is_filled(&self) -> bool {
        !matches!(*lock(&self.state), State::Empty)
    }

    pub fn is_taken(&self) -> bool {
        matches!(*lock(&self.state), State::Taken)
    }

    /// Takes the result, published or not (by 3).
    pub fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Filled(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Filled(value) => Some(value),
            State::Empty | State::Taken => None,
        }
    }

    /// Sleeps until the result is published, the caller is roused, the time is over, or a signal arrives.
    pub fn wait(&self, timeout: Option<Duration>) -> Waited {
        self.published.wait(timeout)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_result_wins_and_the_second_is_handed_back() {
        let slot = Slot::new();
        assert_eq!(slot.fill(1), Ok(()));
        assert_eq!(slot.fill(2), Err(2));
        assert_eq!(slot.take(), Some(1));
        assert_eq!(slot.take(), None);
        assert_eq!(slot.fill(3), Err(3));
    }

    #[test]
    fn a_filled_slot_wakes_nobody_before_it_is_published() {
        let slot = Slot::new();
        assert!(slot.fill(()).is_ok());
        assert_eq!(slot.wait(Some(Duration::from_millis(1))), Waited::TimedOut);
        slot.publish();
        assert_eq!(slot.wait(None), Waited::Open);
    }
}
