//! What the server of a VM that is well did wrong last.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones are the same note.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Option<String>>>);

impl Faults {
    pub(crate) fn note(&self, fault: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
