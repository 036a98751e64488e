//! Sessions of clients of the legacy era: each has a server process of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::outlet::Outlet;
use super::party::Party;
use super::refusal::Refusal;
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
    _place: Place,
}

impl Session {
    pub(super) fn new(visit: Visit<'_>, party: Party, place: Place) -> Self {
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
    most: usize,
    places: Arc<Semaphore>,
    /// Of each who may not have them all.
    own: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A session's, among all and among its sender's.
pub(super) struct Place {
    _any: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Self { by_id: Mutex::default(), most, places, own: Mutex::default() }
    }

    /// For one more, as long as that lives.
    pub(super) fn place(&self, sender: &Sender) -> Result<Place, Refusal> {
        let own = self.own(sender).map(Semaphore::try_acquire_owned).transpose();
        let own = own.map_err(|_| {
            let (kind, name, most) = (sender.kind(), sender.name(), each(self.most));
            full(format!("{kind} {name} has {most} sessions, which is the most for one {kind}"))
        })?;
        let any = Arc::clone(&self.places).try_acquire_owned();
        let any =
            any.map_err(|_| full(format!("{} sessions are open, which is the most", self.most)))?;
        Ok(Place { _any: any, _own: own })
    }

    fn own(&self, sender: &Sender) -> Option<Arc<Semaphore>> {
        let account = sender.account()?;
        let mut own = lock(&self.own);
        let places =
            own.entry(account).or_insert_with(|| Arc::new(Semaphore::new(each(self.most))));
        Some(Arc::clone(places))
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
        // Each place holds on to those that it is one of.
        lock(&self.own).retain(|_, places| Arc::strong_count(places) > 1);
    }
}

/// Of so much, what one may have who may not have it all.
pub(super) fn each(most: usize) -> usize {
    (most / 8).max(1)
}

pub(super) fn full(why: String) -> Refusal {
    Refusal::http(StatusCode::SERVICE_UNAVAILABLE, why)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
