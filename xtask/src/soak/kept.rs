//! What was found last, for a page that is written anew.

use serde::{Deserialize, Serialize};

use super::ledger::Fault;
use crate::cache;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Versions, the day.
    pub(super) about: Vec<String>,
    pub(super) clients: usize,
    pub(super) minutes: f64,
    pub(super) rows: Vec<Row>,
    pub(super) all: Times,
    pub(super) faults: Vec<Fault>,
}

/// Of one server.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) from: String,
    /// Of its package, where it is one of a registry.
    pub(super) version: Option<String>,
    /// As a user would type it.
    pub(super) command: String,
    pub(super) call: String,
    pub(super) times: Times,
    /// Of its VM, in MiB.
    pub(super) memory: Option<u64>,
}

/// Of calls, in seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Times {
    pub(super) calls: usize,
    pub(super) median: f64,
    pub(super) p99: f64,
}

impl cache::Kept for Kept {
    const FILE: &str = "soak.json";
}
