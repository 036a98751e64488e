//! The sessions there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_wire::message::{Refusal, SessionId, SessionInfo};

use super::session::Session;

pub(super) struct Table {
    limit: usize,
    sessions: Mutex<BTreeMap<SessionId, Arc<Session>>>,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, sessions: Mutex::default() }
    }

    pub(super) fn check_room_for(&self, id: SessionId) -> Result<(), Refusal> {
        let sessions = self.lock();
        if sessions.contains_key(&id) {
            return Err(Refusal::SessionExists(id));
        }
        if sessions.len() >= self.limit {
            return Err(Refusal::TooManySessions { limit: self.limit as u32 });
        }
        Ok(())
    }

    pub(super) fn insert(&self, session: Arc<Session>) {
        self.lock().insert(session.id(), session);
    }

    pub(super) fn get(&self, id: SessionId) -> Result<Arc<Session>, Refusal> {
        self.lock().get(&id).cloned().ok_or(Refusal::NoSuchSession(id))
    }

    pub(super) fn remove(&self, id: SessionId) -> Option<Arc<Session>> {
        self.lock().remove(&id)
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn describe(&self) -> Vec<SessionInfo> {
        self.all().iter().map(|session| session.describe()).collect()
    }

    pub(super) fn len(&self) -> u32 {
        self.lock().len() as u32
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
