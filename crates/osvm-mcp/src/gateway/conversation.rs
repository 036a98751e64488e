//! One conversation with a server, whose messages go to the HTTP answers that they belong to.
//!
//! ```text
//! POST ──ask──> open requests ──queue──> server
//! POST <─outlet── by id, progress token or subscription <──line── server
//! GET  <─outlet── what belongs to no request
//! ```
//!
//! Clients that share a conversation have ids and progress tokens of their own choice, so their requests go by a
//! [`Guise`]: the server sees other ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Stream;
use super::outlet::Outlet;
use super::params::{self, Params};
use super::refusal::Refusal;
use crate::envelope::{self, Envelope, Kind, each_element, field, fields};
use crate::limits::Limits;
use crate::lines::{self, LineReader};
use crate::protocol::{
    INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, SUBSCRIPTION,
};

/// Requests of one conversation that are open at once.
const MOST_OPEN: usize = 256;
/// Lines that a server has not read yet.
const MOST_UNREAD: usize = 512;
/// How long a server may take to read one.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// Longest id of a request, in bytes.
const LONGEST_ID: usize = 1 << 10;

pub(super) struct Conversation {
    shared: Arc<Shared>,
    listening: AbortOnDropHandle<()>,
    speaking: AbortOnDropHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    place: Place,
    to_server: mpsc::Sender<Vec<u8>>,
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

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
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
    /// Once the server has listed its tools, and until they change.
    params: Option<Params>,
    is_over: bool,
}

struct Open {
    outlet: Arc<Outlet>,
    /// The id as the server was told it.
    told: Box<RawValue>,
    /// As the server knows it.
    progress: Option<String>,
    /// It asks for tools.
    is_list: bool,
    /// It is the gateway's own: nobody reads what comes before the answer.
    is_own: bool,
    guise: Option<Guise>,
}

/// What the client of a request knows by other names than the server does.
struct Guise {
    id: Box<RawValue>,
    progress: Option<Box<RawValue>>,
}

/// Cancels its request when it is dropped before that was answered.
pub(super) struct Waiting {
    conversation: Arc<Conversation>,
    outlet: Arc<Outlet>,
}

impl Waiting {
    pub(super) fn new(conversation: Arc<Conversation>, outlet: &Arc<Outlet>) -> Self {
        Self { conversation, outlet: Arc::clone(outlet) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.conversation.give_up(&self.outlet);
    }
}

impl Conversation {
    pub(super) fn with(stream: Stream, limits: &Limits, place: Place) -> Self {
        let (from_server, to_server) = split(stream);
        let (queue, queued) = mpsc::channel(MOST_UNREAD);
        let shared = Arc::new(Shared { state: Mutex::default(), place, to_server: queue });
        let listening = tokio::spawn(Arc::clone(&shared).listen(from_server, limits.line_bytes));
        let speaking = tokio::spawn(Arc::clone(&shared).speak(to_server, queued));
        let [listening, speaking] = [listening, speaking].map(AbortOnDropHandle::new);
        Self { shared, listening, speaking }
    }

    /// Which arguments of a tool are said in headers, too; `None` before the server has listed its tools.
    pub(super) fn params_of(&self, tool: &str) -> Option<Vec<params::Place>> {
        self.shared.lock().params.as_ref().map(|params| params.of(tool))
    }

    /// It was asked for its tools, and has said which it has, or will not.
    pub(super) fn has_listed(&self) {
        self.shared.lock().params.get_or_insert_default();
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
        self.speaking.abort();
        self.shared.end();
    }

    /// Sends a request, whose answer and all that belongs to it goes to the outlet.
    pub(super) fn ask(&self, request: &Envelope<'_>) -> Result<Arc<Outlet>, Refusal> {
        self.send(request, false)
    }

    /// The same of the gateway's own, of whose outlet nothing but the answer is read.
    pub(super) fn ask_own(&self, request: &Envelope<'_>) -> Result<Arc<Outlet>, Refusal> {
        self.send(request, true)
    }

    fn send(&self, request: &Envelope<'_>, is_own: bool) -> Result<Arc<Outlet>, Refusal> {
        let (line, outlet) = self.note(request, is_own)?;
        if !self.shared.say(&line) {
            self.give_up(&outlet);
            let why = "the server does not read what it is sent";
            return Err(Refusal::rpc(request.id, INTERNAL_ERROR, why));
        }
        Ok(outlet)
    }

    /// The request as the server is to see it.
    fn note<'a>(
        &self,
        request: &Envelope<'a>,
        is_own: bool,
    ) -> Result<(Cow<'a, str>, Arc<Outlet>), Refusal> {
        let refuse = |code, why: &str| Err(Refusal::rpc(request.id, code, why));
        let Some(id) = request.id else { return refuse(INVALID_REQUEST, "a request needs an id") };
        if id.get().len() > LONGEST_ID {
            return refuse(INVALID_REQUEST, "the id is too long");
        }
        let token = progress_token(request)
            .map_err(|why| Refusal::rpc(request.id, INVALID_PARAMS, why.to_string()))?;
        let mut state = self.shared.lock();
        if state.is_over {
            return refuse(INTERNAL_ERROR, "the server is gone");
        }
        if state.open.len() >= MOST_OPEN {
            return refuse(INTERNAL_ERROR, "too many requests are open");
        }
        let number = match &self.shared.place {
            Place::Among(_, numbers) => numbers.next(),
            Place::Alone(_) | Place::Shared => {
                state.outlets += 1;
                state.outlets
            }
        };
        let outlet = Outlet::new(number);
        let (told, line, guise) = match self.shared.place.standalone() {
            Some(_) => (id.to_owned(), request.text().into(), None),
            None => {
                let own = number.to_string();
                let pieces = [Some(id), token].into_iter().flatten();
                let pieces: Vec<_> = pieces.map(|piece| (piece, own.as_str())).collect();
                let line = request.with(&pieces).into();
                let told = RawValue::from_string(own).expect("it is a number");
                let progress = token.map(ToOwned::to_owned);
                (told, line, Some(Guise { id: id.to_owned(), progress }))
            }
        };
        let progress = token.map(|token| key(if guise.is_some() { &told } else { token }));
        let key = key(&told);
        if state.open.contains_key(&key) {
            return refuse(INVALID_REQUEST, "a request with this id is open");
        }
        let is_list = request.method.as_deref() == Some("tools/list");
        state.open.insert(
            key,
            Open { outlet: Arc::clone(&outlet), told, progress, is_list, is_own, guise },
        );
        Ok((line, outlet))
    }

    /// Sends what needs no answer. A server that does not read is not told.
    pub(super) fn tell(&self, message: &Envelope<'_>) {
        self.shared.say(message.text());
        if message.method.as_deref() == Some("notifications/cancelled")
            && let Some(id) = field(message.params, "requestId")
        {
            // It is not answered any more.
            let open = self.shared.lock().open.remove(&key(id));
            open.iter().for_each(|open| open.outlet.cut());
        }
    }

    /// Sends what is no request and no cancellation.
    pub(super) fn say(&self, text: &str) {
        self.shared.say(text);
    }

    /// Nobody waits for this one any more.
    fn give_up(&self, outlet: &Outlet) {
        let told = {
            let mut state = self.shared.lock();
            let mut open = state.open.iter();
            let found = open.find(|(_, open)| open.outlet.number == outlet.number);
            let found = found.map(|(key, _)| key.clone());
            found.and_then(|key| state.open.remove(&key)).map(|open| open.told)
        };
        let Some(told) = told else { return };
        self.shared.queue(envelope::cancelled(&told, "the client has gone"));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a line sent, unless too many are not read yet. A line end within one is space.
    fn say(&self, text: &str) -> bool {
        let mut line = text.replace(['\n', '\r'], " ").into_bytes();
        line.push(b'\n');
        self.queue(line)
    }

    fn queue(&self, line: Vec<u8>) -> bool {
        self.to_server.try_send(line).is_ok()
    }

    async fn speak(
        self: Arc<Self>,
        mut to_server: WriteHalf<Stream>,
        mut queued: mpsc::Receiver<Vec<u8>>,
    ) {
        while let Some(line) = queued.recv().await {
            let written = async {
                to_server.write_all(&line).await?;
                to_server.flush().await
            };
            if !matches!(timeout(READ_WITHIN, written).await, Ok(Ok(()))) {
                break;
            }
        }
        self.end();
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
        for open in open.into_values() {
            let id = open.guise.map_or(open.told, |guise| guise.id);
            let error = envelope::error(&id, INTERNAL_ERROR, "the server is gone");
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
        // In an event, a carriage return is the end of a line.
        let text = match text.contains('\r') {
            true => Cow::Owned(text.replace('\r', " ")),
            false => Cow::Borrowed(text),
        };
        // What programs print beside their messages is nobody's.
        let Ok(message) = Envelope::parse(&text) else { return };
        match message.kind() {
            Kind::Response => self.answered(&message),
            Kind::Notification => self.notified(&message),
            Kind::Request => self.asked(&message),
        }
    }

    fn answered(&self, message: &Envelope<'_>) {
        let Some(open) = message.id.and_then(|id| self.lock().open.remove(&key(id))) else {
            return;
        };
        if let (true, Place::Shared, Some(result)) = (open.is_list, &self.place, message.result) {
            self.lock().params.get_or_insert_default().learn(result);
        }
        match open.guise {
            None => open.outlet.answer(message.text()),
            Some(guise) => {
                let subscription = subscription(message.result);
                let id = guise.id.get();
                let own = [message.id, subscription].into_iter().flatten().map(|piece| (piece, id));
                open.outlet.answer(&message.with(&own.collect::<Vec<_>>()));
            }
        }
    }

    fn notified(&self, message: &Envelope<'_>) {
        let mut state = self.lock();
        if let Some(token) = field(message.params, "progressToken") {
            let wanted = key(token);
            let by_token = |open: &&Open| open.progress.as_ref() == Some(&wanted);
            let Some(open) = state.open.values().find(by_token) else { return };
            let own = open.guise.as_ref().and_then(|guise| guise.progress.as_ref());
            let own: Vec<_> = own.into_iter().map(|own| (token, own.get())).collect();
            return open.outlet.put(&message.with(&own));
        }
        if let Some(id) = subscription(message.params)
            && let Some(open) = state.open.get(&key(id))
        {
            let own: Vec<_> = open.guise.iter().map(|guise| (id, guise.id.get())).collect();
            return open.outlet.put(&message.with(&own));
        }
        if message.method.as_deref() == Some("notifications/tools/list_changed") {
            state.params = None;
        }
        // What a server says while it works is about that, but for what it says of itself.
        let of_itself = message.method.as_deref().is_some_and(|method| {
            method.ends_with("/list_changed") || method == "notifications/resources/updated"
        });
        self.put(&state, of_itself, message.text());
    }

    /// Hands on what does not say which request it is about.
    fn put(&self, state: &State, of_itself: bool, text: &str) {
        let read = state.open.values().filter(|open| !open.is_own);
        let newest = read.max_by_key(|open| open.outlet.number);
        match (newest, self.place.standalone()) {
            (Some(open), Some(_)) if !of_itself => open.outlet.put(text),
            (_, Some(standalone)) => standalone.put(text),
            // Of those who share a server it may be about anybody, unless there is but one. Of its changes they are told by
            // their subscriptions.
            (Some(open), None) if !of_itself && state.open.len() == 1 => open.outlet.put(text),
            (_, None) => {}
        }
    }

    /// Only a client of one's own can be asked.
    fn asked(&self, message: &Envelope<'_>) {
        let text = match (&self.place, message.id) {
            (Place::Shared, Some(id)) => {
                let why = "clients that share a server can't be asked";
                self.queue(envelope::error(id, METHOD_NOT_FOUND, why));
                return;
            }
            (Place::Among(name, _), Some(id)) => message.with(&[(id, &marked(name, id))]).into(),
            _ => Cow::Borrowed(message.text()),
        };
        self.put(&self.lock(), false, &text);
    }
}

/// The same of all spellings of an id or token.
fn key(id: &RawValue) -> String {
    match serde_json::from_str(id.get()) {
        Ok(Value::String(text)) => format!("\"{text}"),
        Ok(Value::Number(number)) => match number.as_f64() {
            // Up to there every whole number has a value of its own.
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 9e15 => {
                format!("{}", whole as i64)
            }
            _ => number.to_string(),
        },
        _ => id.get().to_owned(),
    }
}

fn progress_token<'a>(request: &Envelope<'a>) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let Some(params) = request.params else { return Ok(None) };
    let [Some(meta)] = fields(params.get(), ["_meta"])? else { return Ok(None) };
    let [token] = fields(meta.get(), ["progressToken"])?;
    Ok(token)
}

/// A server's id as its client sees it, who is asked by other servers, too.
fn marked(server: &str, id: &RawValue) -> String {
    Value::String(format!("{server}/{}", id.get())).to_string()
}

/// The server and its id; nothing where a client has made that up.
pub(super) fn unmarked(id: &RawValue) -> Option<(String, Box<RawValue>)> {
    let id: String = serde_json::from_str(id.get()).ok()?;
    let (server, id) = id.split_once('/')?;
    Some((server.to_owned(), RawValue::from_string(id.to_owned()).ok()?))
}

/// Which subscription a message belongs to.
fn subscription(object: Option<&RawValue>) -> Option<&RawValue> {
    field(field(object, "_meta"), SUBSCRIPTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_in_every_spelling_and_a_text_is_no_number() {
        let key_of = |id: &str| key(&RawValue::from_string(id.to_owned()).unwrap());
        for (one, other) in
            [(r#""a\/b""#, r#""a/b""#), ("1", "1.0"), ("100", "1e2"), (r#""\u003c""#, r#""<""#)]
        {
            assert_eq!(key_of(one), key_of(other), "{one} {other}");
        }
        for (one, other) in
            [("1", r#""1""#), ("1", "2"), ("1", "1.5"), ("9007199254740993", "9007199254740992")]
        {
            assert_ne!(key_of(one), key_of(other), "{one} {other}");
        }
    }

    #[test]
    fn what_a_client_makes_up_is_no_servers_id() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let (server, id) = unmarked(&raw(&marked("one", &raw(r#""a\/b""#)))).unwrap();
        assert_eq!((server.as_str(), id.get()), ("one", r#""a\/b""#));
        for made_up in [r#""one/1,\"method\":\"x\"""#, r#""one/""#, r#""one""#, "1"] {
            assert!(unmarked(&raw(made_up)).is_none(), "{made_up}");
        }
    }
}
