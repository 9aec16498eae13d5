//! The names under which a bridge keeps its runners: what each of them is for.

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunnerKey {
    /// 0 is the process runner. Those above it are for calls that must not go to a lower one, as its thread waits for
    /// them, or may do so any time.
    Level(u32),
    /// Scope "thread": the runner of one calling thread, by a number that no other thread ever has.
    Thread(u64),
}

impl RunnerKey {
    /// The level of runners for the calls that code on this one makes and waits for.
    pub fn level_above(&self) -> u32 {
        match self {
            Self::Level(level) => level + 1,
            Self::Thread(_) => 1,
        }
    }
}
