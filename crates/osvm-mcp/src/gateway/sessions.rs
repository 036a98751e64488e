//! Sessions of clients of the legacy era: each has a server process of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::outlet::Outlet;
use super::party::Party;

/// Streams that are over and kept for a client that comes back for the rest.
const KEPT: usize = 16;

pub(super) struct Session {
    /// `None` for all.
    server: Option<String>,
    pub(super) party: Party,
    streams: Mutex<Vec<Arc<Outlet>>>,
    used: Mutex<Instant>,
}

impl Session {
    pub(super) fn new(server: Option<&str>, party: Party) -> Self {
        let streams = Mutex::new(vec![Arc::clone(party.standalone())]);
        let server = server.map(str::to_owned);
        Self { server, party, streams, used: Mutex::new(Instant::now()) }
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

    fn is_forgotten(&self, after: Duration) -> bool {
        let idle = lock(&self.used).elapsed() > after && self.party.is_idle();
        self.party.is_over() || idle
    }
}

/// All of them, by their ids.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }

    pub(super) fn add(&self, id: String, session: Arc<Session>) {
        lock(&self.0).insert(id, session);
    }

    pub(super) fn get(&self, id: &str, server: Option<&str>) -> Option<Arc<Session>> {
        let session = lock(&self.0).get(id).cloned();
        session.filter(|session| session.server.as_deref() == server && !session.party.is_over())
    }

    pub(super) fn remove(&self, id: &str) {
        // Whoever still reads its streams holds on to it, and has no more to read.
        if let Some(session) = lock(&self.0).remove(id) {
            session.party.end();
        }
    }

    pub(super) fn drain(&self) {
        lock(&self.0).values().for_each(|session| session.cut());
    }

    /// Ends those that nobody has used for a long time.
    pub(super) fn forget(&self, after: Duration) {
        lock(&self.0)
            .retain(|_, session| Arc::strong_count(session) > 1 || !session.is_forgotten(after));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
