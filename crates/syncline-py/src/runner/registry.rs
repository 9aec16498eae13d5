//! A bridge's runners, by whom they serve.

use super::state::Runner;
use pyo3::PyErr;
use std::sync::Arc;
use syncline_core::runners::{self, Runners};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunnerKey {
    /// 0 is the process runner; those above serve nested calls.
    Level(u32),
    /// Scope "thread": by a number that no other thread ever has.
    Thread(u64),
}

pub type Registry = Runners<RunnerKey, Arc<Runner>, PyErr>;
pub type Find = runners::Find<RunnerKey, Arc<Runner>, PyErr>;
pub type Start = runners::Start<RunnerKey, Arc<Runner>, PyErr>;
pub type Starting = runners::Starting<PyErr>;
