//! JSON-RPC over one pair of streams: requests in flight by id, notifications, and one precise
//! reason when it ends.
//!
//! ```text
//! call ──> OpenRequest ──> Outbox ──> Writer task ──> server
//!               ^                                       │
//!               └────────── Inbox task <────────────────┘
//! ```
//!
//! Neither task ever waits for the other: a server that stops reading can't stop osvm from reading,
//! nor the reverse.

mod inbox;
mod open;
mod outbox;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::envelope;
use crate::error::McpError;
use crate::limits::Limits;
use crate::received::Received;
use inbox::Inbox;
use open::{OpenRequest, OpenRequests};
use outbox::Outbox;

/// Both directions of one conversation. Dropping it ends the server's input.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    inbox: AbortHandle,
}

/// What the tasks and the callers have in common.
#[derive(Debug)]
struct Shared {
    open: OpenRequests,
    outbox: Outbox,
    /// Whether requests of the server are answered.
    replies: AtomicBool,
    received: Mutex<Received>,
    subscriber: Mutex<Option<mpsc::Sender<Notification>>>,
    ended: watch::Sender<Option<McpError>>,
}

/// When a request, or a row of them, must be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    pub(crate) fn after(after: Duration) -> Self {
        let now = Instant::now();
        // Something so far away that it never comes will do for what can't be represented.
        let at = now.checked_add(after).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        Self { at, after }
    }
}

/// A server's message that wants no answer: progress, a log entry, a changed list.
#[derive(Debug, Clone)]
pub struct Notification {
    pub method: String,
    pub params: Option<Box<RawValue>>,
}

impl Connection {
    /// The first request gets the id after `last_id`.
    pub(crate) fn open<R, W>(reader: R, writer: W, limits: &Limits, last_id: u64) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (outbox, queue) = outbox::channel();
        let shared = Arc::new(Shared {
            open: OpenRequests::new(limits.open_requests, last_id),
            outbox,
            replies: AtomicBool::new(true),
            received: Mutex::default(),
            subscriber: Mutex::default(),
            ended: watch::Sender::new(None),
        });
        tokio::spawn(outbox::write(queue, writer, Arc::downgrade(&shared)));
        let inbox = Inbox::new(reader, Arc::clone(&shared), limits);
        Self { shared, inbox: tokio::spawn(inbox.run()).abort_handle() }
    }

    /// Sends a request and waits for its result. When the future is dropped, the server is told
    /// that the answer is no longer wanted.
    pub(crate) async fn call(
        &self,
        method: &str,
        params: Option<&RawValue>,
        deadline: Deadline,
    ) -> Result<Box<RawValue>, McpError> {
        let answer =
            async { OpenRequest::send(&self.shared, method, params).await?.answer().await };
        tokio::time::timeout_at(deadline.at, answer).await.unwrap_or_else(|_| {
            let (method, received) = (method.to_owned(), self.received());
            Err(McpError::Timeout { method, after: deadline.after, received })
        })
    }

    pub(crate) fn notify(&self, method: &str, params: Option<&RawValue>) {
        self.shared.outbox.send(envelope::notification(method, params), None);
    }

    /// Ends a line that somebody else began.
    pub(crate) fn end_line(&self) {
        self.shared.outbox.send(vec![b'\n'], None);
    }

    /// Leaves requests of the server without an answer from now on.
    pub(crate) fn stop_replying(&self) {
        self.shared.replies.store(false, Ordering::Relaxed);
    }

    /// Notifications from now on, in place of an earlier subscriber. A subscriber that lags by more
    /// than `capacity` misses some.
    pub(crate) fn subscribe(&self, capacity: usize) -> mpsc::Receiver<Notification> {
        let (sender, receiver) = mpsc::channel(capacity);
        *lock(&self.shared.subscriber) = Some(sender);
        receiver
    }

    pub(crate) fn received(&self) -> Received {
        self.shared.received().clone()
    }

    /// Whether the server's output goes on.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.ended.borrow().is_none()
    }

    /// The same for somebody who does not keep the connection; `None` when it was dropped instead.
    pub(crate) fn end(&self) -> impl Future<Output = Option<McpError>> + Send + use<> {
        let mut ended = self.shared.ended.subscribe();
        async move { ended.wait_for(Option::is_some).await.ok()?.clone() }
    }

    /// Waits for the end of the server's output, and says why it ended.
    pub(crate) async fn ended(&self) -> McpError {
        let mut ended = self.shared.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.expect("its sender is in self");
        reason.clone().expect("it was waited for")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inbox.abort();
    }
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }

    /// Fails what is open and what is yet to come. The first reason stays.
    fn end(&self, reason: McpError) {
        let first = |ended: &mut Option<McpError>| {
            let first = ended.is_none();
            ended.get_or_insert(reason);
            first
        };
        if self.ended.send_if_modified(first) {
            self.open.fail_all(&self.reason());
        }
    }

    fn reason(&self) -> McpError {
        self.ended.borrow().clone().expect("asked for after the end only")
    }

    fn closed(&self, why: String) -> McpError {
        McpError::ServerClosed { why, received: self.received().clone() }
    }
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
