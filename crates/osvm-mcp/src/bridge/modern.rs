//! A modern client of a legacy server: the handshake is the bridge's, and what it settles is what each request says.
//!
//! ```text
//! Unmet ── first request: initialize ──> Meeting ── its result: initialized, then what has waited ──> Met
//!   ^                                       │
//!   └──────── refused, or the server lost ──┘
//! ```

mod addresses;
mod handshake;
mod inputs;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::calls::{Call, Calls};
use super::capabilities::Offers;
use super::listening::Listening;
use super::messages::{self, RESOURCE_NOT_FOUND, Refusal, key};
use super::meta::{Meta, unstated, unsupported};
use super::seal::Seal;
use super::splice::{Edit, edited, field, missing, quoted};
use super::{Ids, Step, Terms};
use crate::envelope::{Envelope, Kind};
use crate::era::MODERN;
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};
use handshake::Server;
use inputs::Inputs;

/// Longest progress token that is remembered, in bytes. One that is longer is used by nobody.
const LONGEST_TOKEN: usize = 1 << 10;

/// Methods that the modern era has no more, or has as something else.
const GONE: [&str; 8] = [
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
];

/// Requests whose results say how long they hold.
const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

pub(super) struct ModernClient {
    /// The version that the server is offered.
    offered: String,
    patience: Duration,
    seal: Seal,
    ids: Ids,
    server: Server,
    /// What the server was told last to log.
    level: Option<String>,
    calls: Calls<Asking>,
    /// Bytes of what is kept for clients that are to retry.
    kept: usize,
    /// Calls that a client may make anew, once it has opened what their server wants opened.
    anew: BTreeSet<u64>,
    listening: Listening,
    now: Instant,
}

/// A request of the client's that the server has not answered, or whose answer the client has not fetched.
struct Asking {
    /// The client's, as it is spelled.
    id: String,
    cacheable: bool,
    reads: bool,
    wants_log: bool,
    offers: Offers,
    /// What the server names it by when it tells of its progress, and what the client does.
    token: Option<String>,
    shown: Option<String>,
    /// For those requests that may be answered by asking back.
    inputs: Option<Inputs>,
}

impl ModernClient {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        let Terms { server_version, binding, key, patience } = terms;
        let seal = Seal::new(key, &binding);
        Self {
            offered: server_version,
            patience,
            ids: Ids::new(&seal.word()),
            seal,
            server: Server::Unmet,
            level: None,
            calls: Calls::default(),
            kept: 0,
            anew: BTreeSet::new(),
            listening: Listening::default(),
            now,
        }
    }

    pub(super) fn is_meeting(&self) -> bool {
        matches!(self.server, Server::Meeting { .. })
    }

    pub(super) fn is_listening(&self) -> bool {
        !self.listening.is_empty()
    }

    pub(super) fn of_client(&mut self, message: &Envelope<'_>, now: Instant) -> Step {
        self.now = now;
        let mut step = Step::default();
        self.client_message(message, &mut step);
        step
    }

    fn client_message(&mut self, message: &Envelope<'_>, step: &mut Step) {
        match (message.kind(), message.id) {
            (Kind::Request, Some(id)) => {
                if let Err(refusal) = self.client_request(message, step) {
                    step.to_client.push(refusal.answers(id.get()));
                }
            }
            (Kind::Notification, _) => self.client_notification(message, step),
            // Nobody has asked it anything.
            _ => {}
        }
    }

    fn client_request(&mut self, message: &Envelope<'_>, step: &mut Step) -> Result<(), Refusal> {
        let method = message.method.as_deref().unwrap_or_default();
        let params = message.params.map_or("{}", |params| params.get());
        if method == "initialize" {
            return Err(unsupported(field(params, "protocolVersion").unwrap_or("null")));
        }
        let meta = Meta::read(params)?;
        if GONE.contains(&method) {
            let why =
                format!("Method not found: {method}, in {MODERN} and with a server of before");
            return Err(Refusal::new(METHOD_NOT_FOUND, why));
        }
        match self.server {
            Server::Met(_) => self.ask(message, &meta, step),
            Server::Meeting { .. } => self.wait(message.text()),
            Server::Unmet => {
                self.meet(&meta, step)?;
                self.wait(message.text())
            }
        }
    }

    fn ask(
        &mut self,
        message: &Envelope<'_>,
        meta: &Meta<'_>,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        let params = message.params.map_or("{}", |params| params.get());
        let client = key(id);
        if self.calls.of_client(&client).is_some() || self.listening.has(&client) {
            let why = format!("a request with the id {client} is open");
            return Err(Refusal::new(INVALID_REQUEST, why));
        }
        match method {
            "server/discover" => {
                step.to_client.push(messages::result(id.get(), &self.discovered()));
            }
            "subscriptions/listen" => self.listen(client, id.get(), params, step)?,
            _ if self.is_retry(method, params) => self.retry(message, client, meta, step)?,
            _ => self.open(message, client, meta, step)?,
        }
        Ok(())
    }

    fn listen(
        &mut self,
        client: String,
        id: &str,
        params: &str,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let Server::Met(met) = &self.server else { return Ok(()) };
        let (told, fresh) = self.listening.open(client, id, params, &met.abilities)?;
        step.to_client.push(told);
        for uri in fresh {
            self.subscription("resources/subscribe", &uri, step);
        }
        Ok(())
    }

    fn subscription(&mut self, method: &str, uri: &str, step: &mut Step) {
        let params = format!(r#"{{"uri":{}}}"#, quoted(uri));
        step.to_server.push(messages::request(&self.ids.next(), method, &params));
    }

    /// Passes a request on, but for what it says in the modern era alone.
    fn open(
        &mut self,
        message: &Envelope<'_>,
        client: String,
        meta: &Meta<'_>,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        if self.calls.is_full() {
            return Err(Refusal::new(INTERNAL_ERROR, "too many requests are open"));
        }
        self.log(meta.level.as_deref(), step);
        let params = message.params.map_or("{}", |params| params.get());
        let asking = Asking {
            id: id.get().to_owned(),
            cacheable: CACHEABLE.contains(&method),
            reads: method == "resources/read",
            wants_log: meta.level.is_some(),
            offers: Offers::of(meta.capabilities),
            shown: token(meta),
            token: token(meta),
            inputs: Inputs::of(method, params),
        };
        // The client may have used it before, for a call that the server has not answered: it waits for input.
        let own = self.calls.of_server(&client).map(|_| self.ids.next());
        let other = own.as_ref().map(|own| Edit { part: id.get(), with: own.clone() });
        let edits = unstated(params).into_iter().chain(other);
        step.to_server.push(edited(message.text(), edits).into_bytes());
        self.calls.open(client.clone(), own.unwrap_or(client), asking);
        Ok(())
    }

    /// Has the server log from that level on, if it does not yet.
    fn log(&mut self, level: Option<&str>, step: &mut Step) {
        let (Some(level), Server::Met(met)) = (level, &self.server) else { return };
        if !met.abilities.logging || self.level.as_deref() == Some(level) {
            return;
        }
        self.level = Some(level.to_owned());
        let params = format!(r#"{{"level":{}}}"#, quoted(level));
        step.to_server.push(messages::request(&self.ids.next(), "logging/setLevel", &params));
    }

    fn client_notification(&mut self, message: &Envelope<'_>, step: &mut Step) {
        match message.method.as_deref().unwrap_or_default() {
            // Gone with the handshake, and with roots that are told of without being asked for.
            "notifications/initialized" | "notifications/roots/list_changed" => {}
            // Whether it is too much to keep is nothing that one could answer.
            _ if matches!(self.server, Server::Meeting { .. }) => drop(self.wait(message.text())),
            "notifications/cancelled" => self.client_cancels(message, step),
            _ if matches!(self.server, Server::Unmet) => {}
            _ => step.to_server.push(message.text().as_bytes().to_vec()),
        }
    }

    fn client_cancels(&mut self, message: &Envelope<'_>, step: &mut Step) {
        let Some(id) = messages::cancels(message) else { return };
        let client = key(id);
        for uri in self.listening.close(&client) {
            self.subscription("resources/unsubscribe", &uri, step);
        }
        let Some(number) = self.calls.of_client(&client) else { return };
        if let Some(server) = self.calls.get(number).and_then(|call| call.server()) {
            let edit = Edit { part: id.get(), with: server.to_owned() };
            step.to_server.push(edited(message.text(), [edit]).into_bytes());
        }
        self.forget(number, "the request was cancelled", step);
    }

    pub(super) fn of_server(&mut self, message: &Envelope<'_>, now: Instant) -> Step {
        self.now = now;
        let mut step = Step::default();
        match (message.kind(), message.id) {
            (Kind::Request, Some(id)) => {
                if let Err(refusal) = self.server_request(message, &mut step) {
                    step.to_server.push(refusal.answers(id.get()));
                }
            }
            (Kind::Response, Some(id)) => self.server_response(message, &key(id), &mut step),
            _ => self.server_notification(message, &mut step),
        }
        step
    }

    fn server_request(&mut self, message: &Envelope<'_>, step: &mut Step) -> Result<(), Refusal> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        match method {
            "ping" => step.to_server.push(messages::result(id.get(), "{}")),
            "sampling/createMessage" | "elicitation/create" | "roots/list" => {
                self.input(
                    id.get(),
                    method,
                    message.params.map(serde_json::value::RawValue::get),
                    step,
                )?;
            }
            _ => {
                let why = format!("Method not found: clients of {MODERN} can't be asked {method}");
                return Err(Refusal::new(METHOD_NOT_FOUND, why));
            }
        }
        Ok(())
    }

    fn server_response(&mut self, message: &Envelope<'_>, id: &str, step: &mut Step) {
        if let Server::Meeting { hello, .. } = &self.server
            && hello == id
        {
            return self.met(message, step);
        }
        // Others answer what the bridge has asked for itself, or what was cancelled.
        let Some(number) = self.calls.of_server(id) else { return };
        if self.calls.get(number).is_some_and(|call| call.client().is_none()) {
            return self.keep(number, message.text());
        }
        if let Some(call) = self.close(number) {
            step.to_client.push(self.told(number, &call, message));
        }
    }

    fn server_notification(&mut self, message: &Envelope<'_>, step: &mut Step) {
        match message.method.as_deref() {
            None => {}
            Some("notifications/cancelled") => self.server_cancels(message),
            Some("notifications/message")
                if !self.calls.iter().any(|(_, call)| call.about.wants_log) => {}
            // Gone with what they belonged to.
            Some("notifications/elicitation/complete" | "notifications/tasks/status") => {}
            Some("notifications/progress") => self.progress(message, step),
            Some(_) => match self.listening.told(message) {
                Some(told) => step.to_client.extend(told),
                None => step.to_client.push(message.text().as_bytes().to_vec()),
            },
        }
    }

    /// Told by the token of the request that the client waits for now, which may be a retry.
    fn progress(&self, message: &Envelope<'_>, step: &mut Step) {
        let token = message.params.and_then(|params| field(params.get(), "progressToken"));
        let is_it = |call: &&Call<Asking>| token.is_some() && call.about.token.as_deref() == token;
        let call = self.calls.iter().map(|(_, call)| call).find(is_it);
        let shown = call.filter(|call| call.client().is_some()).map(|call| &call.about.shown);
        let edits = match (token, call, shown) {
            (Some(part), _, Some(Some(shown))) => vec![Edit { part, with: shown.clone() }],
            // Whoever waits did not ask for it, or nobody does.
            (_, Some(_), _) => return,
            _ => Vec::new(),
        };
        step.to_client.push(edited(message.text(), edits).into_bytes());
    }

    /// The server is gone, after what it left open was answered for.
    pub(super) fn lost(&mut self, why: &str) -> Step {
        let mut step = Step::default();
        if matches!(self.server, Server::Meeting { .. }) {
            self.fail(why, &mut step);
        }
        self.level = None;
        self.unask();
        for id in self.listening.clear() {
            step.to_client.push(Refusal::new(INTERNAL_ERROR, why).answers(&id));
        }
        let left = self.calls.iter().filter(|(_, call)| call.server().is_some());
        for number in left.map(|(number, _)| number).collect::<Vec<_>>() {
            let Some(call) = self.calls.get(number) else { continue };
            let answer = Refusal::new(INTERNAL_ERROR, why).answers(&call.about.id);
            if call.client().is_some() {
                step.to_client.push(answer);
                self.close(number);
            } else {
                self.keep(number, &String::from_utf8_lossy(&answer));
            }
        }
        step
    }
}

impl Asking {
    /// The server's answer as the client's era has it, with more that is to be changed in it.
    fn answered<'a>(
        &self,
        message: &Envelope<'a>,
        more: impl IntoIterator<Item = Edit<'a>>,
    ) -> Vec<u8> {
        let mut edits: Vec<_> = more.into_iter().collect();
        if let Some(id) = message.id {
            edits.push(Edit { part: id.get(), with: self.id.clone() });
        }
        let result = message.result.map(serde_json::value::RawValue::get);
        let complete = ("resultType", r#""complete""#);
        edits.extend(result.and_then(|result| match self.cacheable {
            false => missing(result, [complete]),
            true => missing(result, [complete, ("ttlMs", "0"), ("cacheScope", r#""private""#)]),
        }));
        let code = message.error.and_then(|error| field(error.get(), "code"));
        if let Some(part) = code.filter(|code| self.reads && *code == RESOURCE_NOT_FOUND) {
            edits.push(Edit { part, with: INVALID_PARAMS.to_string() });
        }
        edited(message.text(), edits).into_bytes()
    }
}

fn token(meta: &Meta<'_>) -> Option<String> {
    meta.token.filter(|token| token.len() <= LONGEST_TOKEN).map(str::to_owned)
}
