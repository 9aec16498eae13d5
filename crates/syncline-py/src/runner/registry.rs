//! What a bridge keeps its runners in.

use super::key::RunnerKey;
use super::state::Runner;
use pyo3::PyErr;
use std::sync::Arc;
use syncline_core::runners::{self, Runners};

pub type Registry = Runners<RunnerKey, Arc<Runner>, PyErr>;
pub type Find = runners::Find<RunnerKey, Arc<Runner>, PyErr>;
pub type Start = runners::Start<RunnerKey, Arc<Runner>, PyErr>;
pub type Starting = runners::Starting<PyErr>;
