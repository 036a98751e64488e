//! Sessions of clients of the legacy era: each has a server process of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::outlet::Outlet;
use super::party::Party;
use super::sender::{Sender, Visit};

/// Streams that are over and kept for a client that comes back for the rest.
const KEPT: usize = 4;

pub(super) struct Session {
    /// Who has begun it.
    sender: Arc<Sender>,
    /// `None` for all.
    server: Option<String>,
    pub(super) party: Party,
    streams: Mutex<Vec<Arc<Outlet>>>,
    used: Mutex<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Session {
    pub(super) fn new(visit: Visit<'_>, party: Party, place: OwnedSemaphorePermit) -> Self {
        let streams = Mutex::new(vec![Arc::clone(party.standalone())]);
        let (sender, server) = (Arc::clone(visit.sender), visit.server.map(str::to_owned));
        let used = Mutex::new(Instant::now());
        Self { sender, server, party, streams, used, _place: place }
    }

    /// A stream that its client may come back to.
    pub(super) fn keep(&self, outlet: &Arc<Outlet>) {
        let mut streams = lock(&self.streams);
        streams.push(Arc::clone(outlet));
        let over = streams.iter().filter(|outlet| outlet.is_over()).count();
        if over > KEPT
            && let Some(oldest) = streams.iter().position(|outlet| outlet.is_over())
        {
            streams.remove(oldest);
        }
    }

    pub(super) fn drop_stream(&self, outlet: &Arc<Outlet>) {
        lock(&self.streams).retain(|kept| !Arc::ptr_eq(kept, outlet));
    }

    pub(super) fn stream(&self, number: u64) -> Option<Arc<Outlet>> {
        lock(&self.streams).iter().find(|outlet| outlet.number == number).cloned()
    }

    /// Ends the stream of what belongs to no request.
    pub(super) fn cut(&self) {
        self.party.standalone().cut();
    }

    pub(super) fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// Of nobody else it is known that there is one.
    fn is_of(&self, visit: Visit<'_>) -> bool {
        self.server.as_deref() == visit.server && self.sender.is(visit.sender)
    }

    fn is_forgotten(&self, after: Duration) -> bool {
        self.party.is_over() || lock(&self.used).elapsed() > after
    }
}

/// All of them.
pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    places: Arc<Semaphore>,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self { by_id: Mutex::default(), places: Arc::new(Semaphore::new(most)) }
    }

    /// For one more, as long as that lives.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub(super) fn add(&self, id: String, session: Arc<Session>) {
        lock(&self.by_id).insert(id, session);
    }

    pub(super) fn get(&self, id: &str, visit: Visit<'_>) -> Option<Arc<Session>> {
        let session = lock(&self.by_id).get(id).cloned();
        session.filter(|session| session.is_of(visit) && !session.party.is_over())
    }

    pub(super) fn remove(&self, id: &str) {
        // Whoever still reads its streams holds on to it, and has no more to read.
        if let Some(session) = lock(&self.by_id).remove(id) {
            session.party.end();
        }
    }

    pub(super) fn drain(&self) {
        lock(&self.by_id).values().for_each(|session| session.cut());
    }

    /// Ends those that nobody has used for a long time, and those of tokens that are not known any more.
    pub(super) fn forget(&self, after: Duration, is_known: &dyn Fn(&Sender) -> bool) {
        lock(&self.by_id).retain(|_, session| {
            let is_known = is_known(&session.sender);
            if !is_known {
                session.party.end();
            }
            is_known && (Arc::strong_count(session) > 1 || !session.is_forgotten(after))
        });
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
