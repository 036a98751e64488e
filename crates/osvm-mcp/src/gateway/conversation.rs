//! One conversation with a server, whose messages go to the HTTP answers that they belong to.
//!
//! ```text
//! POST ──ask──> open requests ──line──> server
//! POST <─outlet── by id, progress token or subscription <──line── server
//! GET  <─outlet── what belongs to no request
//! ```
//!
//! Clients that share a conversation have ids and progress tokens of their own choice, so their requests go by a
//! [`Guise`]: the server sees other ones.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::task::AbortOnDropHandle;

use super::Stream;
use super::headers::Meta;
use super::outlet::Outlet;
use super::refusal::{INVALID_REQUEST, Refusal};
use crate::envelope::{self, Envelope, Kind, each_element};
use crate::era::Fields;
use crate::limits::Limits;
use crate::lines::{self, LineReader};

/// Requests of one conversation that are open at once.
const MOST_OPEN: usize = 256;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

pub(super) struct Conversation {
    to_server: AsyncMutex<WriteHalf<Stream>>,
    shared: Arc<Shared>,
    listening: AbortOnDropHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    place: Place,
}

/// Where a conversation stands towards its client.
pub(super) enum Place {
    /// It is the only one of a client.
    Alone(Arc<Outlet>),
    /// It is one of several of a client, with the server of this name. Outlets have numbers of the client's.
    Among(String, Numbers),
    /// Several clients share it.
    Shared,
}

/// What one client is told by several servers.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) standalone: Arc<Outlet>,
    pub(super) last: Arc<AtomicU64>,
}

impl Place {
    /// For what belongs to no open request; `None` where clients share the conversation.
    fn standalone(&self) -> Option<&Arc<Outlet>> {
        match self {
            Self::Alone(standalone) => Some(standalone),
            Self::Among(_, numbers) => Some(&numbers.standalone),
            Self::Shared => None,
        }
    }
}

#[derive(Default)]
struct State {
    /// By their ids, as the server knows them.
    open: BTreeMap<String, Open>,
    outlets: u64,
    /// Requests of the gateway's own.
    own: u64,
    is_over: bool,
}

struct Open {
    outlet: Arc<Outlet>,
    /// As the server knows it.
    progress: Option<String>,
    guise: Option<Guise>,
}

/// What the client of a request knows by other names than the server does.
struct Guise {
    id: Box<RawValue>,
    progress: Option<Box<RawValue>>,
}

impl Conversation {
    pub(super) fn with(stream: Stream, limits: &Limits, place: Place) -> Self {
        let (from_server, to_server) = split(stream);
        let shared = Arc::new(Shared { state: Mutex::default(), place });
        let listening = tokio::spawn(Arc::clone(&shared).listen(from_server, limits.line_bytes));
        let listening = AbortOnDropHandle::new(listening);
        Self { to_server: AsyncMutex::new(to_server), shared, listening }
    }

    /// One that no request of its client has had.
    pub(super) fn next_number(&self) -> u64 {
        let mut state = self.shared.lock();
        state.own += 1;
        state.own
    }

    pub(super) fn is_over(&self) -> bool {
        self.shared.lock().is_over
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shared.lock().open.is_empty()
    }

    /// Nothing more is said, nor answered.
    pub(super) fn end(&self) {
        self.listening.abort();
        self.shared.end();
    }

    /// Sends a request, whose answer and all that belongs to it goes to the outlet.
    pub(super) async fn ask(&self, request: &Envelope<'_>) -> Result<Arc<Outlet>, Refusal> {
        let (line, key) = self.note(request)?;
        let outlet = self.shared.lock().open.get(&key).map(|open| Arc::clone(&open.outlet));
        if self.tell(&line).await.is_err() {
            self.shared.end();
        }
        outlet.ok_or_else(|| Refusal::rpc(request.id, INVALID_REQUEST, "the server is gone"))
    }

    /// The request as the server is to see it, and its id there.
    fn note(&self, request: &Envelope<'_>) -> Result<(String, String), Refusal> {
        let refuse = |why: &str| Err(Refusal::rpc(request.id, INVALID_REQUEST, why));
        let Some(id) = request.id else { return refuse("a request needs an id") };
        let token = Meta::of(request).and_then(|meta| meta.get("progressToken"));
        let mut state = self.shared.lock();
        if state.is_over {
            return refuse("the server is gone");
        }
        if state.open.len() >= MOST_OPEN {
            return refuse("too many requests are open");
        }
        let number = match &self.shared.place {
            Place::Among(_, numbers) => numbers.last.fetch_add(1, Ordering::Relaxed) + 1,
            Place::Alone(_) | Place::Shared => {
                state.outlets += 1;
                state.outlets
            }
        };
        let outlet = Outlet::new(number);
        let (line, key, open) = if self.shared.place.standalone().is_some() {
            let progress = token.map(|token| token.get().to_owned());
            let open = Open { outlet, progress, guise: None };
            (request.with(&[]), id.get().to_owned(), open)
        } else {
            let key = number.to_string();
            let own = [Some(id), token].into_iter().flatten().map(|piece| (piece, key.as_str()));
            let line = request.with(&own.collect::<Vec<_>>());
            let guise = Guise { id: id.to_owned(), progress: token.map(ToOwned::to_owned) };
            let progress = token.map(|_| key.clone());
            (line, key, Open { outlet, progress, guise: Some(guise) })
        };
        if state.open.contains_key(&key) {
            return refuse("a request with this id is open");
        }
        state.open.insert(key.clone(), open);
        Ok((line, key))
    }

    /// Sends a line; a line end within one is space.
    pub(super) async fn tell(&self, text: &str) -> io::Result<()> {
        let mut line = text.replace(['\n', '\r'], " ").into_bytes();
        line.push(b'\n');
        let mut to_server = self.to_server.lock().await;
        to_server.write_all(&line).await?;
        to_server.flush().await
    }

    /// Nobody waits for this one any more.
    pub(super) async fn give_up(&self, outlet: &Outlet) {
        let key = {
            let mut state = self.shared.lock();
            let mut open = state.open.iter();
            let key = open.find(|(_, open)| open.outlet.number == outlet.number);
            let key = key.map(|(key, _)| key.clone());
            key.inspect(|key| drop(state.open.remove(key)))
        };
        let Some(key) = key else { return };
        let cancelled = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{key},"reason":"the client has gone"}}}}"#
        );
        // A server that is gone has nothing to cancel.
        let _ = self.tell(&cancelled).await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Self>, from_server: ReadHalf<Stream>, longest: usize) {
        let mut lines = LineReader::new(from_server, longest);
        loop {
            match lines.next().await {
                Ok(Some(line)) => self.hear_line(&lines::text(line.bytes)),
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "server not listened to any more");
                    break;
                }
            }
        }
        self.end();
    }

    /// Nothing more will be answered.
    fn end(&self) {
        let open = {
            let mut state = self.lock();
            state.is_over = true;
            std::mem::take(&mut state.open)
        };
        for (key, open) in open {
            let id = open.guise.map_or_else(|| RawValue::from_string(key), |guise| Ok(guise.id));
            let Ok(id) = id else { continue };
            let error = envelope::error(&id, super::refusal::INTERNAL_ERROR, "the server is gone");
            open.outlet.answer(String::from_utf8_lossy(&error).trim_end());
        }
        if let Place::Alone(standalone) = &self.place {
            standalone.cut();
        }
    }

    fn hear_line(&self, line: &str) {
        if !line.starts_with('[') {
            return self.hear(line);
        }
        // Of a batch, each goes its own way.
        let _ = each_element(line, &mut |message| {
            self.hear(message.get());
            true
        });
    }

    fn hear(&self, text: &str) {
        let text = text.replace(['\n', '\r'], " ");
        // What programs print beside their messages is nobody's.
        let Ok(message) = Envelope::parse(&text) else { return };
        match message.kind() {
            Kind::Response => self.answered(&message),
            Kind::Notification => self.notified(&message),
            Kind::Request => self.asked(&message),
        }
    }

    fn answered(&self, message: &Envelope<'_>) {
        let Some(open) = message.id.and_then(|id| self.lock().open.remove(id.get())) else {
            return;
        };
        match open.guise {
            None => open.outlet.answer(&message.with(&[])),
            Some(guise) => {
                let subscription = subscription(message.result);
                let id = guise.id.get();
                let own = [message.id, subscription].into_iter().flatten().map(|piece| (piece, id));
                open.outlet.answer(&message.with(&own.collect::<Vec<_>>()));
            }
        }
    }

    fn notified(&self, message: &Envelope<'_>) {
        let state = self.lock();
        let progress = Fields::parse(message.params).ok();
        let progress = progress.and_then(|params| params.get("progressToken"));
        if let Some(token) = progress {
            let by_token = |open: &&Open| open.progress.as_deref() == Some(token.get());
            let Some(open) = state.open.values().find(by_token) else { return };
            let own = open.guise.as_ref().and_then(|guise| guise.progress.as_ref());
            let own: Vec<_> = own.into_iter().map(|own| (token, own.get())).collect();
            return open.outlet.put(&message.with(&own));
        }
        if let Some(id) = subscription(message.params)
            && let Some(open) = state.open.get(id.get())
        {
            let own: Vec<_> = open.guise.iter().map(|guise| (id, guise.id.get())).collect();
            return open.outlet.put(&message.with(&own));
        }
        // What a server says while it works is about that, but for what it says of itself.
        let of_itself = message.method.as_deref().is_some_and(|method| {
            method.ends_with("/list_changed") || method == "notifications/resources/updated"
        });
        self.put(&state, of_itself, &message.with(&[]));
    }

    fn put(&self, state: &State, of_itself: bool, text: &str) {
        let newest = state.open.values().max_by_key(|open| open.outlet.number);
        match (newest, self.place.standalone()) {
            (Some(open), _) if !of_itself => open.outlet.put(text),
            (_, Some(standalone)) => standalone.put(text),
            // Those who share a server are told of its changes by their subscriptions.
            (_, None) => {}
        }
    }

    /// Only a client of one's own can be asked.
    fn asked(&self, message: &Envelope<'_>) {
        let text = match (&self.place, message.id) {
            (Place::Shared, _) => return,
            (Place::Among(name, _), Some(id)) => message.with(&[(id, &marked(name, id))]),
            _ => message.with(&[]),
        };
        self.put(&self.lock(), false, &text);
    }
}

/// A server's id as its client sees it, who is asked by other servers, too.
fn marked(server: &str, id: &RawValue) -> String {
    serde_json::Value::String(format!("{server}/{}", id.get())).to_string()
}

/// The server and its id.
pub(super) fn unmarked(id: &RawValue) -> Option<(String, String)> {
    let id: String = serde_json::from_str(id.get()).ok()?;
    let (server, id) = id.split_once('/')?;
    Some((server.to_owned(), id.to_owned()))
}

/// Which subscription a message belongs to.
fn subscription(fields: Option<&RawValue>) -> Option<&RawValue> {
    let fields = Fields::parse(fields).ok()?;
    Fields::parse(Some(fields.get("_meta")?)).ok()?.get(SUBSCRIPTION)
}
