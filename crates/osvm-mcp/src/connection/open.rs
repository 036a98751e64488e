//! Requests that wait for their answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Shared, lock};
use crate::envelope;
use crate::error::McpError;

pub(super) type Answer = Result<Box<RawValue>, McpError>;

/// One of a bounded number of places, held by a request and by its lines until they are written.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// The waiters, by request id.
#[derive(Debug)]
pub(super) struct OpenRequests {
    places: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    waiters: HashMap<u64, oneshot::Sender<Answer>>,
}

impl OpenRequests {
    pub(super) fn new(places: usize, last_id: u64) -> Self {
        let table = Mutex::new(Table { last_id, waiters: HashMap::new() });
        Self { places: Arc::new(Semaphore::new(places)), table }
    }

    /// The waiter of that id, which is no longer open then.
    pub(super) fn close(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        lock(&self.table).waiters.remove(&id)
    }

    /// The waiter of the only open request, if there is exactly one.
    pub(super) fn close_only(&self) -> Option<oneshot::Sender<Answer>> {
        let waiters = &mut lock(&self.table).waiters;
        let only = waiters.keys().next().copied().filter(|_| waiters.len() == 1)?;
        waiters.remove(&only)
    }

    pub(super) fn fail_all(&self, reason: &McpError) {
        for (_, waiter) in lock(&self.table).waiters.drain() {
            // Nobody may be waiting any more.
            let _ = waiter.send(Err(reason.clone()));
        }
    }
}

/// One request in flight. Dropped without an answer, it is cancelled.
#[derive(Debug)]
pub(super) struct OpenRequest<'a> {
    shared: &'a Shared,
    id: u64,
    method: &'a str,
    place: Place,
    answer: oneshot::Receiver<Answer>,
}

impl<'a> OpenRequest<'a> {
    /// Waits for a place, then hands the request to the writer.
    pub(super) async fn send(
        shared: &'a Shared,
        method: &'a str,
        params: Option<&RawValue>,
    ) -> Result<Self, McpError> {
        let place = Arc::clone(&shared.open.places).acquire_owned().await;
        let place = Arc::new(place.expect("the semaphore is never closed"));
        let (waiter, answer) = oneshot::channel();
        let id = Self::enter(shared, waiter)?;
        shared.outbox.send(envelope::request(id, method, params), Some(Arc::clone(&place)));
        Ok(Self { shared, id, method, place, answer })
    }

    fn enter(shared: &Shared, waiter: oneshot::Sender<Answer>) -> Result<u64, McpError> {
        let mut table = lock(&shared.open.table);
        // Under the lock, since `end` drains the table after it has set the reason.
        if shared.ended.borrow().is_some() {
            return Err(shared.reason());
        }
        table.last_id += 1;
        let id = table.last_id;
        table.waiters.insert(id, waiter);
        Ok(id)
    }

    pub(super) async fn answer(mut self) -> Answer {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.shared.reason()),
        }
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let unanswered = self.shared.open.close(self.id).is_some();
        // The one request that the protocol does not let a client cancel.
        if unanswered && self.method != "initialize" {
            let line = envelope::cancelled(&self.id, "no longer wanted");
            self.shared.outbox.send(line, Some(Arc::clone(&self.place)));
        }
    }
}
