//! What comes from the server, line by line: answers to their waiters, notifications to the
//! subscriber, replies to requests, the rest counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::{Notification, Shared, lock};
use crate::envelope::{self, Envelope, Kind};
use crate::error::{McpError, RpcError};
use crate::limits::Limits;
use crate::lines::{self, LineError, LineReader};

/// Longest notification that is kept for a subscriber, and longest id that is echoed, in bytes:
/// several of them may wait, so they are held shorter than lines.
const LONGEST_NOTIFICATION: usize = 1 << 20;
const LONGEST_ID: usize = 1 << 10;

#[derive(Debug)]
pub(super) struct Inbox<R> {
    lines: LineReader<R>,
    shared: Arc<Shared>,
    garbage_limit: u64,
    throttle: Throttle,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub(super) fn new(reader: R, shared: Arc<Shared>, limits: &Limits) -> Self {
        Self {
            lines: LineReader::new(reader, limits.line_bytes),
            shared,
            garbage_limit: limits.garbage_lines,
            throttle: Throttle::new(limits.unasked_lines_per_second),
        }
    }

    pub(super) async fn run(mut self) {
        let reason = loop {
            if let Err(reason) = self.next().await {
                break reason;
            }
        };
        tracing::debug!(%reason, "a server's connection ended");
        self.shared.end(reason);
    }

    async fn next(&mut self) -> Result<(), McpError> {
        let shared = &self.shared;
        let watch = |unfinished: &[u8]| shared.received().set_unfinished(unfinished);
        let line = self.lines.next_watched(watch).await.map_err(|error| shared.failed(&error))?;
        let line = line.ok_or_else(|| shared.closed("its output ended".to_owned()))?;
        let text = lines::text(line.bytes);
        let taken = shared.take(&text);
        if !line.complete && taken == Taken::Garbage {
            return Err(shared.closed("its output ended in the middle of a line".to_owned()));
        }
        shared.check_garbage(self.garbage_limit)?;
        if taken != Taken::Answer {
            self.throttle.spend().await;
        }
        Ok(())
    }
}

/// What a line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Answer,
    Unasked,
    Garbage,
}

impl Shared {
    fn take(&self, text: &str) -> Taken {
        let taken = match text.bytes().next() {
            None => Some(Taken::Unasked),
            Some(b'[') => self.take_batch(text),
            Some(_) => self.take_message(text),
        };
        taken.unwrap_or_else(|| {
            tracing::debug!(bytes = text.len(), "a server's line is no message");
            self.received().add_garbage(text);
            Taken::Garbage
        })
    }

    /// Revision 2025-03-26 has batches. Those before and after it don't, and log lines begin
    /// with a bracket, too.
    fn take_batch(&self, text: &str) -> Option<Taken> {
        let mut taken = None;
        let mut take = |element: &RawValue| {
            taken = self.take_message(element.get()).or(taken);
            true
        };
        let _ = envelope::each_element(text, &mut take);
        taken
    }

    fn take_message(&self, text: &str) -> Option<Taken> {
        let message = Envelope::parse(text).ok()?;
        self.received().messages += 1;
        Some(match (message.kind(), message.id, message.method) {
            (Kind::Response, id, _) => self.take_response(id, message.result, message.error),
            (Kind::Request, Some(id), Some(method)) => self.take_request(id, &method),
            (_, _, method) => self.take_notification(method, message.params),
        })
    }

    fn take_response(
        &self,
        id: Option<&RawValue>,
        result: Option<&RawValue>,
        error: Option<&RawValue>,
    ) -> Taken {
        let waiter = match id.map(RawValue::get) {
            Some(id) if id != "null" => id.parse().ok().and_then(|id| self.open.close(id)),
            // A server that could not read a request can't say whose error this is.
            _ if error.is_some() => self.open.close_only(),
            _ => None,
        };
        let Some(waiter) = waiter else {
            self.received().strays += 1;
            return Taken::Unasked;
        };
        let answer = match (result, error) {
            (Some(result), None) => Ok(result.to_owned()),
            (_, error) => Err(refusal(error)),
        };
        // The waiter may have given up in this instant.
        let _ = waiter.send(answer);
        Taken::Answer
    }

    /// This client declares no capabilities, so all it can be asked is whether it is there.
    fn take_request(&self, id: &RawValue, method: &str) -> Taken {
        // Only clients send these, so this is our own: a terminal's echo, or no server at all.
        if ["initialize", "server/discover"].contains(&method) {
            self.end(McpError::Protocol("it sends back what it is sent".to_owned()));
        }
        if self.replies.load(Ordering::Relaxed) && id.get().len() <= LONGEST_ID {
            self.outbox.reply(match method {
                "ping" => envelope::empty_result(id),
                _ => envelope::error(id, RpcError::METHOD_NOT_FOUND, "method not found"),
            });
        }
        Taken::Unasked
    }

    fn take_notification(&self, method: Option<String>, params: Option<&RawValue>) -> Taken {
        let length = params.map_or(0, |params| params.get().len());
        let subscriber = lock(&self.subscriber);
        if let (Some(subscriber), Some(method)) = (&*subscriber, method)
            && length + method.len() <= LONGEST_NOTIFICATION
            && let Ok(room) = subscriber.try_reserve()
        {
            room.send(Notification { method, params: params.map(RawValue::to_owned) });
        }
        Taken::Unasked
    }

    fn check_garbage(&self, limit: u64) -> Result<(), McpError> {
        let received = self.received();
        if received.messages > 0 || received.garbage <= limit {
            return Ok(());
        }
        let what = format!("more than {limit} lines before its first message");
        Err(McpError::Limit { what, received: received.clone() })
    }

    fn failed(&self, error: &LineError) -> McpError {
        match error {
            LineError::TooLong { .. } => {
                McpError::Limit { what: error.to_string(), received: self.received().clone() }
            }
            LineError::Read(_) => self.closed(error.to_string()),
        }
    }
}

fn refusal(error: Option<&RawValue>) -> McpError {
    match error.map(RpcError::read) {
        Some(Ok(error)) => McpError::Rpc(error),
        _ => {
            let start: String = error.map_or("null", RawValue::get).chars().take(200).collect();
            McpError::Protocol(format!("an error that is no JSON-RPC error: {start}"))
        }
    }
}

/// Lets a number of lines pass each second, and makes those above it wait for the next.
#[derive(Debug)]
struct Throttle {
    per_second: u32,
    left: u32,
    until: Instant,
}

impl Throttle {
    fn new(per_second: u32) -> Self {
        Self { per_second, left: per_second, until: Instant::now() + Duration::from_secs(1) }
    }

    async fn spend(&mut self) {
        if self.left == 0 {
            tokio::time::sleep_until(self.until).await;
        }
        if Instant::now() >= self.until {
            *self = Self::new(self.per_second);
        }
        self.left = self.left.saturating_sub(1);
    }
}
