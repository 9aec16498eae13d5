//! The names under which a bridge keeps its runners: what each of them is for.

use super::state::Runner;
use pyo3::PyErr;
use std::sync::Arc;
use syncline_core::runners::{self, Runners};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunnerKey {
    /// 0 is the process runner. Those above it are for calls that must not go to a lower one, as its thread waits for
    /// them.
    Level(u32),
    /// Scope "thread": the runner of one calling thread, by a number that no other thread ever has.
    Thread(u64),
}

pub type Registry = Runners<RunnerKey, Arc<Runner>, PyErr>;
pub type Find = runners::Find<RunnerKey, Arc<Runner>, PyErr>;
pub type Start = runners::Start<RunnerKey, Arc<Runner>, PyErr>;
pub type Starting = runners::Starting<PyErr>;
