//! The sessions there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_wire::message::{Refusal, SessionId, SessionInfo};

use super::session::Session;

pub(super) struct Table {
    limit: usize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Kept for sessions that are being started.
    kept: BTreeSet<SessionId>,
}

/// A place for a session that is being started; free again when dropped.
pub(super) struct Place<'t> {
    table: &'t Table,
    id: SessionId,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, places: Mutex::default() }
    }

    pub(super) fn keep_place(&self, id: SessionId) -> Result<Place<'_>, Refusal> {
        let mut places = self.lock();
        if places.sessions.contains_key(&id) || places.kept.contains(&id) {
            return Err(Refusal::SessionExists(id));
        }
        if places.sessions.len() + places.kept.len() >= self.limit {
            return Err(Refusal::TooManySessions { limit: self.limit as u32 });
        }
        places.kept.insert(id);
        Ok(Place { table: self, id })
    }

    pub(super) fn get(&self, id: SessionId) -> Result<Arc<Session>, Refusal> {
        self.lock().sessions.get(&id).cloned().ok_or(Refusal::NoSuchSession(id))
    }

    pub(super) fn remove(&self, id: SessionId) -> Option<Arc<Session>> {
        self.lock().sessions.remove(&id)
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().cloned().collect()
    }

    pub(super) fn describe(&self) -> Vec<SessionInfo> {
        self.all().iter().map(|session| session.describe()).collect()
    }

    pub(super) fn len(&self) -> u32 {
        self.lock().sessions.len() as u32
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    pub(super) fn take(self, session: Arc<Session>) {
        self.table.lock().sessions.insert(self.id, session);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.table.lock().kept.remove(&self.id);
    }
}
