//! `agent.log`: what the fleet saw happen to one VM, a line an event.

use std::sync::{Arc, Mutex, PoisonError};

use crate::logs::CappedLog;
use crate::rundir::RunDir;

/// Shared by all who have something to note. A log that can't be written is done without: a full
/// disk must not end VMs.
#[derive(Debug, Clone)]
pub(crate) struct Diary(Arc<Mutex<Option<CappedLog>>>);

impl Diary {
    pub(crate) fn open(dir: &RunDir) -> Self {
        let path = dir.logs().join("agent.log");
        let log = CappedLog::open(&path, CappedLog::CAP).map_err(|error| {
            tracing::warn!(log = %path.display(), %error, "no diary");
        });
        Self(Arc::new(Mutex::new(log.ok())))
    }

    pub(crate) fn note(&self, text: &str) {
        if let Some(log) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = log.line(text);
        }
    }
}
