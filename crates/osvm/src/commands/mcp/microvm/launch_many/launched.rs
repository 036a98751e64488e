//! Which VMs this run has launched: those it may stop. A name alone doesn't tell: another run may have had it first, or
//! have it by now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_spec::ServerName;

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Launched(Arc<Mutex<BTreeMap<ServerName, String>>>);

impl Launched {
    /// The daemon has said that the launch of that name is that VM.
    pub(super) fn note(&self, name: &ServerName, id: &str) {
        self.ids().insert(name.clone(), id.to_owned());
    }

    /// Whatever has become of them: one that failed is listed until it is stopped.
    pub(super) fn all(&self) -> Vec<(ServerName, String)> {
        self.ids().iter().map(|(name, id)| (name.clone(), id.clone())).collect()
    }

    fn ids(&self) -> MutexGuard<'_, BTreeMap<ServerName, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
