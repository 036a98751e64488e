//! Requests of the modern era: each says it all, so those of one kind of client share a server process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::FutureExt;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Gateway;
use super::all::{self, Asked};
use super::answer;
use super::conversation::{Conversation, Place};
use super::headers::{self, CAPABILITIES, Meta};
use super::outlet::Outlet;
use super::refusal::{Refusal, json, status_of};
use crate::envelope::{Envelope, Kind};
use crate::era::Fields;

/// Longest statement of capabilities.
const LONGEST_CAPABILITIES: usize = 16 << 10;
/// Server processes that are shared, at a time.
const MOST_SHARES: usize = 1_000;

/// To one server, or to all.
pub(super) async fn say(
    gateway: &Gateway,
    server: Option<&str>,
    headers: &HeaderMap,
    message: &Envelope<'_>,
) -> Result<Response, Refusal> {
    headers::of_modern(headers, message)?;
    if message.kind() != Kind::Request {
        // Whoever ends a request ends its stream; nothing else is said without being asked.
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    match server {
        Some(server) => ask(gateway, server, message).await,
        None => ask_all(gateway, message).await,
    }
}

async fn ask_all(gateway: &Gateway, message: &Envelope<'_>) -> Result<Response, Refusal> {
    if message.method.as_deref() == Some("server/discover") {
        return Ok(json(StatusCode::OK, all::answer(message.id, &all::Discovered::default())));
    }
    let names = gateway.names().await?;
    match Asked::of(message)? {
        Asked::List(field) => {
            let method = message.method.as_deref().unwrap_or_default();
            let meta = Fields::parse(message.params).ok().and_then(|params| params.get("_meta"));
            let share = |server| conversation(gateway, server, message).boxed();
            let items = all::list(&names, (method, field), meta, share).await;
            Ok(json(StatusCode::OK, all::answer(message.id, &all::Listed::of(field, items))))
        }
        Asked::Named => {
            let (server, line) = all::for_one(&names, message)?;
            ask(gateway, &server, &super::parse(&line)?).await
        }
    }
}

async fn ask(gateway: &Gateway, server: &str, message: &Envelope<'_>) -> Result<Response, Refusal> {
    let conversation = conversation(gateway, server, message).await?;
    let outlet = conversation.ask(message).await?;
    let waiting = Box::new(Waiting { conversation, outlet: Arc::clone(&outlet) });
    Ok(answer::of(outlet, waiting, status).await)
}

/// The one that requests of this kind go to.
pub(super) async fn conversation(
    gateway: &Gateway,
    server: &str,
    message: &Envelope<'_>,
) -> Result<Arc<Conversation>, Refusal> {
    let share = gateway.shares.get(key(server, message)?)?;
    let opened = share.conversation.get_or_try_init(async || {
        let stream = gateway.open(server).await?;
        let limits = &gateway.bounds.of_servers;
        Ok(Arc::new(Conversation::with(stream, limits, Place::Shared)))
    });
    opened.await.cloned()
}

/// Whose requests a server process is for: a server may answer by what its client is capable of.
fn key(server: &str, message: &Envelope<'_>) -> Result<String, Refusal> {
    let capabilities = Meta::of(message)
        .and_then(|meta| meta.get(CAPABILITIES))
        .map_or("{}", serde_json::value::RawValue::get);
    if capabilities.len() > LONGEST_CAPABILITIES {
        let why = format!("client capabilities exceed {LONGEST_CAPABILITIES} bytes");
        return Err(Refusal::rpc(message.id, super::INVALID_REQUEST, why));
    }
    Ok(format!("{server} {capabilities}"))
}

fn status(answer: &str) -> StatusCode {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    let error = Envelope::parse(answer).ok().and_then(|message| message.error);
    let error = error.and_then(|error| serde_json::from_str::<Error>(error.get()).ok());
    error.map_or(StatusCode::OK, |error| status_of(error.code))
}

/// Cancels the request of a client that has gone before it was answered.
struct Waiting {
    conversation: Arc<Conversation>,
    outlet: Arc<Outlet>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.outlet.is_over() {
            return;
        }
        let (conversation, outlet) = (Arc::clone(&self.conversation), Arc::clone(&self.outlet));
        tokio::spawn(async move { conversation.give_up(&outlet).await });
    }
}

pub(super) struct Share {
    conversation: OnceCell<Arc<Conversation>>,
    used: Mutex<Instant>,
}

impl Share {
    fn is_over(&self) -> bool {
        self.conversation.get().is_some_and(|conversation| conversation.is_over())
    }

    fn is_idle(&self) -> bool {
        self.conversation.get().is_none_or(|conversation| conversation.is_idle())
    }
}

/// All server processes that are shared.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<String, Arc<Share>>>);

impl Shares {
    fn get(&self, key: String) -> Result<Arc<Share>, Refusal> {
        let mut shares = lock(&self.0);
        if let Some(share) = shares.get(&key).filter(|share| !share.is_over()) {
            *lock(&share.used) = Instant::now();
            return Ok(Arc::clone(share));
        }
        if shares.len() >= MOST_SHARES {
            let why = "too many kinds of clients are served";
            return Err(Refusal::http(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        let share = Share { conversation: OnceCell::new(), used: Mutex::new(Instant::now()) };
        let share = Arc::new(share);
        shares.insert(key, Arc::clone(&share));
        Ok(share)
    }

    pub(super) fn forget(&self, after: Duration) {
        lock(&self.0).retain(|_, share| {
            let unused = lock(&share.used).elapsed() > after && share.is_idle();
            !share.is_over() && !unused
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
