//! Servers for clients that speak HTTP: Streamable HTTP of both eras.
//!
//! - `door`, `access`, `sender`, `rates`: whose requests are looked at, what they may ask for, and how often.
//! - `oauth`: those with tokens of an authorization server.
//! - `headers`, `params`: what they must say.
//! - `missing`: who is gone.
//! - `legacy`, `sessions`: clients of the legacy era, each with a server process of its own.
//! - `modern`: requests of the modern era, which share server processes.
//! - `all`, `hub`, `party`, `recall`: all servers as one.
//! - `conversation`: which message of a server belongs to which HTTP answer.
//! - `outlet`, `answer`, `refusal`: the answers.
//!
//! The HTTP+SSE transport of 2024-11-05 is not served: its clients have stdio.

mod access;
mod all;
mod answer;
mod conversation;
mod door;
mod headers;
mod hub;
mod legacy;
mod missing;
mod modern;
mod oauth;
mod outlet;
mod params;
mod party;
mod rates;
mod recall;
mod refusal;
mod sender;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use osvm_spec::config::METADATA_PATH;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::access::Access;
use self::access::one;
use self::answer::{Rest, at_once};
use self::headers::{Meta, is_modern};
use self::missing::Missing;
use self::modern::Shares;
pub use self::oauth::{Proven, Unproven, Verifier, Verifying};
use self::rates::Rates;
use self::refusal::Refusal;
pub use self::sender::Tokens;
use self::sender::{Sender, Visit};
use self::sessions::Sessions;
use crate::OnBehalf;
use crate::envelope::Envelope;
use crate::limits::Limits;
use crate::protocol::{INVALID_REQUEST, PARSE_ERROR};

/// A conversation with a server, in lines.
pub type Stream = Box<dyn Duplex>;

/// Both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where servers come from.
pub trait Servers: Send + Sync + 'static {
    /// Starts a server process for someone, and says what is said to it and by it.
    fn open<'s>(&'s self, name: &'s str, whom: OnBehalf) -> Opening<'s>;

    /// Whether one process of a server may serve requests with several tokens.
    fn is_shared(&self, name: &str) -> bool;

    /// All that there are, or why that is not known.
    fn names(&self) -> Naming<'_>;

    /// What these servers answer to the last of a client's lines, which begin with its first, by their names. Absent where
    /// a server itself is to be asked, as each may be.
    fn recall(&self, _lines: Vec<String>, _servers: Vec<(String, OnBehalf)>) -> Recalling<'_> {
        Box::pin(async { Ok(HashMap::new()) })
    }
}

pub type Naming<'s> = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 's>>;

pub type Opening<'s> = Pin<Box<dyn Future<Output = Result<Stream, Unavailable>> + Send + 's>>;

pub type Recalling<'s> =
    Pin<Box<dyn Future<Output = Result<HashMap<String, String>, String>> + Send + 's>>;

/// Why there is no server.
#[derive(Debug)]
pub enum Unavailable {
    /// None has this name.
    Unknown(String),
    /// It does not start.
    Failed(String),
}

/// How much the gateway takes on.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest body, in bytes. Default 64 MiB, as the longest line of a server.
    pub body: usize,
    /// Sessions of clients of the legacy era at a time. Default 1,000.
    pub sessions: usize,
    /// How long such a session lives that nobody uses. Default 30 min.
    pub idle: Duration,
    /// How long a request's body may take to arrive. Default 30 s.
    pub arrival: Duration,
    /// What is read of a server.
    pub of_servers: Limits,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body: 64 << 20,
            sessions: 1_000,
            idle: Duration::from_secs(30 * 60),
            arrival: Duration::from_secs(30),
            of_servers: Limits::default(),
        }
    }
}

pub struct Gateway {
    access: Access,
    bounds: Bounds,
    servers: Box<dyn Servers>,
    sessions: Sessions,
    shares: Shares,
    rates: Rates,
    /// For bodies that are being read, in MiB.
    room: Semaphore,
}

impl Gateway {
    /// To be called inside a Tokio runtime.
    pub fn new(servers: impl Servers, access: Access, bounds: Bounds) -> Arc<Self> {
        let servers = Box::new(servers);
        let room = Semaphore::new(BODIES);
        let (sessions, shares) = (Sessions::new(bounds.sessions), Shares::default());
        let rates = Rates::default();
        let gateway = Self { access, bounds, servers, sessions, shares, rates, room };
        let gateway = Arc::new(gateway);
        tokio::spawn(forget(Arc::downgrade(&gateway)));
        gateway
    }

    pub fn router(self: &Arc<Self>) -> Router {
        let methods = post(say).get(listen).delete(leave);
        Router::new()
            .route("/mcp", methods.clone())
            .route("/servers/{name}/mcp", methods)
            .route(METADATA_PATH, get(describe))
            .route(&format!("{METADATA_PATH}/{{*path}}"), get(describe))
            .fallback(nothing)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(Arc::clone(self), door::admit))
            .with_state(Arc::clone(self))
    }

    /// For a body, until its message is on its way.
    async fn room(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, Refusal> {
        let length = one(headers, header::CONTENT_LENGTH.as_str());
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(self.bounds.body);
        if length > self.bounds.body {
            return Err(too_large(&self.bounds));
        }
        let room = self.room.acquire_many(room_of(length) as u32);
        match tokio::time::timeout(self.bounds.arrival, room).await {
            Ok(Ok(room)) => Ok(room),
            _ => {
                let why = "too much is being sent by others";
                Err(Refusal::http(StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    }

    /// Ends streams that wait for something to happen; requests go on until they are answered.
    pub fn drain(&self) {
        self.sessions.drain();
    }

    async fn open(&self, name: &str, whom: OnBehalf) -> Result<Stream, Refusal> {
        self.servers.open(name, whom).await.map_err(|unavailable| match unavailable {
            Unavailable::Unknown(why) => Refusal::http(StatusCode::NOT_FOUND, why),
            Unavailable::Failed(why) => Refusal::http(StatusCode::BAD_GATEWAY, why),
        })
    }
}

/// Most that bodies which are being read come to together, in MiB.
const BODIES: usize = 512;

/// What a body of so many bytes takes of it.
fn room_of(length: usize) -> usize {
    (length >> 20) + 1
}

type Shared = State<Arc<Gateway>>;

/// Ends what nobody uses, for as long as there is a gateway.
async fn forget(gateway: Weak<Gateway>) {
    const LOOK: Duration = Duration::from_secs(5);
    let mut missing = Missing::default();
    while let Some(gateway) = gateway.upgrade() {
        let is_there = |sender: &Sender| gateway.access.still_knows(sender);
        missing.look(&is_there, |is_known| {
            gateway.sessions.forget(gateway.bounds.idle, is_known);
            gateway.shares.forget(gateway.bounds.idle, is_known);
        });
        gateway.rates.forget();
        drop(gateway);
        tokio::time::sleep(LOOK).await;
    }
}

type Who = Extension<Arc<Sender>>;

async fn say(
    State(gateway): Shared,
    Extension(sender): Who,
    name: Option<Path<String>>,
    request: Request,
) -> Result<Response, Refusal> {
    Ok(hand_on(&gateway, &sender, &name, request).await?.await)
}

/// Neither the body nor its room is held while its answer is waited for.
async fn hand_on<'g>(
    gateway: &'g Gateway,
    sender: &Arc<Sender>,
    name: &Option<Path<String>>,
    request: Request,
) -> Result<Rest<'g>, Refusal> {
    let (parts, body) = request.into_parts();
    let visit = Visit::new(sender, name, &parts.headers)?;
    headers::of_message(visit.headers)?;
    let mut room = gateway.room(visit.headers).await?;
    let body = read(body, &gateway.bounds).await?;
    // Of one whose length was not told, what it might have taken.
    drop(room.split(room.num_permits().saturating_sub(room_of(body.len()))));
    let text = std::str::from_utf8(&body)
        .map_err(|_| Refusal::rpc(None, PARSE_ERROR, "the body is no UTF-8"))?;
    if text.trim_start().starts_with('[') {
        return legacy::batch(gateway, visit, text).await.map(at_once);
    }
    let message = parse(text)?;
    if is_counted(&message) {
        gateway.rates.take(sender, 1, message.id)?;
    }
    let meta = Meta::of(&message);
    match is_modern(visit.headers, &meta) {
        true => modern::say(gateway, visit, meta, &message).await,
        false => legacy::say(gateway, visit, &message).await,
    }
}

/// Whether a message asks a server for something, even if it wants no answer.
fn is_counted(message: &Envelope<'_>) -> bool {
    message.method.as_ref().is_some_and(|method| !method.starts_with("notifications/"))
}

fn parse(text: &str) -> Result<Envelope<'_>, Refusal> {
    let message = Envelope::parse(text).map_err(|error| {
        let code = if is_json(text) { INVALID_REQUEST } else { PARSE_ERROR };
        Refusal::rpc(None, code, error.to_string())
    })?;
    if message.method.is_some() && message.id.is_some_and(|id| id.get() == "null") {
        return Err(Refusal::rpc(None, INVALID_REQUEST, "a request's id must not be null"));
    }
    Ok(message)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

async fn read(body: axum::body::Body, bounds: &Bounds) -> Result<Bytes, Refusal> {
    let read = axum::body::to_bytes(body, bounds.body);
    match tokio::time::timeout(bounds.arrival, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_large(bounds)),
        Err(_) => {
            let why = format!("the body did not arrive within {} s", bounds.arrival.as_secs());
            Err(Refusal::http(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}

fn too_large(bounds: &Bounds) -> Refusal {
    let why = format!("the body exceeds {} bytes, or broke off", bounds.body);
    Refusal::http(StatusCode::PAYLOAD_TOO_LARGE, why)
}

async fn listen(
    State(gateway): Shared,
    Extension(sender): Who,
    name: Option<Path<String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    legacy::listen(&gateway, Visit::new(&sender, &name, &headers)?)
}

async fn leave(
    State(gateway): Shared,
    Extension(sender): Who,
    name: Option<Path<String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    legacy::leave(&gateway, Visit::new(&sender, &name, &headers)?)
}

/// Where tokens come from, for whoever has none yet.
async fn describe(State(gateway): Shared, uri: Uri) -> Result<Response, Refusal> {
    let found = gateway.access.metadata(uri.path());
    let found = found.map_err(|denied| Refusal::http(denied.status, denied.why))?;
    found.ok_or_else(|| {
        let why = "no authorization server gives tokens for what this is the metadata of";
        Refusal::http(StatusCode::NOT_FOUND, why)
    })
}

async fn nothing() -> Refusal {
    Refusal::http(
        StatusCode::NOT_FOUND,
        "nothing is here; all servers are at /mcp, one at /servers/NAME/mcp",
    )
}

async fn not_allowed() -> Refusal {
    Refusal::http(StatusCode::METHOD_NOT_ALLOWED, "only POST, GET and DELETE are served here")
}
