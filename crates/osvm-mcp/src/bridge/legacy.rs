//! A legacy client of a modern server: the handshake is answered by the bridge, which asks the server once who it is,
//! and says with each request what the client said in it.
//!
//! ```text
//! Unmet ── initialize: server/discover ──> Meeting ── its result answers the client ──> Met
//!   ^                                         │
//!   └────────────── refused ──────────────────┘
//! ```

mod questions;
mod watching;

use super::calls::Calls;
use super::capabilities::{Abilities, LEVELS, Offers};
use super::messages::{self, Refusal, key};
use super::meta::{self, LONGEST_CLIENT};
use super::seal::Seal;
use super::splice::{Edit, edited, field, fields, quoted, string};
use super::{Ids, Step, Terms};
use crate::envelope::{Envelope, Kind};
use crate::era::{LEGACY, MODERN};
use crate::protocol::{
    CAPABILITIES, CLIENT_INFO, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, LEVEL,
    METHOD_NOT_FOUND, VERSION,
};
use questions::{Asking, Questions};
use watching::Watching;

/// Methods that the modern era has as something else, or that are no legacy client's.
const GONE: [&str; 6] = [
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
    "subscriptions/listen",
    "server/discover",
];

pub(super) struct LegacyClient {
    ids: Ids,
    stage: Stage,
    /// What the client has said of itself.
    said: Said,
    /// Of the server.
    abilities: Abilities,
    /// What the client wants to be logged, as JSON.
    level: Option<String>,
    calls: Calls<Asking>,
    questions: Questions,
    watching: Watching,
}

enum Stage {
    Unmet,
    /// The bridge's id of `server/discover`, and the client's of `initialize`.
    Meeting {
        discover: String,
        initialize: String,
        version: String,
    },
    Met,
}

/// As each request says it.
struct Said {
    info: String,
    capabilities: String,
    offers: Offers,
}

impl LegacyClient {
    pub(super) fn new(terms: &Terms) -> Self {
        let word = Seal::new(terms.key, &terms.binding).word();
        let [info, capabilities] = ["{}".to_owned(), "{}".to_owned()];
        Self {
            ids: Ids::new(&word),
            stage: Stage::Unmet,
            said: Said { info, capabilities, offers: Offers::default() },
            abilities: Abilities::default(),
            level: None,
            calls: Calls::default(),
            questions: Questions::default(),
            watching: Watching::default(),
        }
    }

    pub(super) fn of_client(&mut self, message: &Envelope<'_>) -> Step {
        let mut step = Step::default();
        match (message.kind(), message.id) {
            (Kind::Request, Some(id)) => {
                if let Err(refusal) = self.client_request(message, &mut step) {
                    step.to_client.push(refusal.answers(id.get()));
                }
            }
            (Kind::Response, Some(id)) => self.client_answers(&key(id), message, &mut step),
            _ => self.client_notification(message, &mut step),
        }
        step
    }

    fn client_request(&mut self, message: &Envelope<'_>, step: &mut Step) -> Result<(), Refusal> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        let params = message.params.map_or("{}", |params| params.get());
        match (method, &self.stage) {
            ("ping", _) => step.to_client.push(messages::result(id.get(), "{}")),
            ("initialize", Stage::Unmet | Stage::Met) => self.meet(id.get(), params, step)?,
            (_, Stage::Unmet | Stage::Meeting { .. }) => {
                let why = format!("{method} has to wait until initialize is answered");
                return Err(Refusal::new(INVALID_REQUEST, why));
            }
            ("logging/setLevel", _) => self.set_level(id.get(), params, step)?,
            ("resources/subscribe", _) => self.subscribe(id.get(), params, step)?,
            ("resources/unsubscribe", _) => {
                let [uri] = fields(params, ["uri"]).unwrap_or_default();
                let uri = uri.and_then(string).unwrap_or_default();
                let [open, waiting] = self.watching.forget(&uri);
                step.to_server.extend(open.map(|id| messages::cancelled(&id, "unsubscribed")));
                step.to_client.extend(waiting.map(|id| messages::result(&id, "{}")));
                step.to_client.push(messages::result(id.get(), "{}"));
            }
            _ if GONE.contains(&method) => {
                let why = format!("Method not found: {method}, of a server that speaks {MODERN}");
                return Err(Refusal::new(METHOD_NOT_FOUND, why));
            }
            _ => self.open(message, step)?,
        }
        Ok(())
    }

    /// Asks the server who it is, to answer the client's handshake.
    fn meet(&mut self, id: &str, params: &str, step: &mut Step) -> Result<(), Refusal> {
        let [version, capabilities, info] =
            fields(params, ["protocolVersion", "capabilities", "clientInfo"]).unwrap_or_default();
        let said = |value: Option<&serde_json::value::RawValue>| {
            let object =
                value.map(serde_json::value::RawValue::get).filter(|value| value.starts_with('{'));
            object.unwrap_or("{}").to_owned()
        };
        let (version, capabilities) = (version.and_then(string), said(capabilities));
        let version = version
            .ok_or_else(|| Refusal::new(INVALID_PARAMS, "initialize names no protocolVersion"))?;
        let info = said(info);
        if info.len() + capabilities.len() > LONGEST_CLIENT {
            let why = format!("the client's name and capabilities exceed {LONGEST_CLIENT} bytes");
            return Err(Refusal::new(INVALID_PARAMS, why));
        }
        let version = LEGACY.into_iter().find(|known| *known == version).unwrap_or(LEGACY[0]);
        self.said = Said { info, offers: Offers::of(&capabilities), capabilities };
        let (discover, initialize) = (self.ids.next(), id.to_owned());
        let params = format!(r#"{{"_meta":{}}}"#, self.meta());
        step.to_server.push(messages::request(&discover, "server/discover", &params));
        self.stage = Stage::Meeting { discover, initialize, version: version.to_owned() };
        Ok(())
    }

    /// What a request of the bridge's own says.
    fn meta(&self) -> String {
        let (version, Said { info, capabilities, .. }) = (quoted(MODERN), &self.said);
        format!(
            r#"{{"{VERSION}":{version},"{CLIENT_INFO}":{info},"{CAPABILITIES}":{capabilities}}}"#
        )
    }

    fn set_level(&mut self, id: &str, params: &str, step: &mut Step) -> Result<(), Refusal> {
        if !self.abilities.logging {
            let why = "Method not found: the server has no logging";
            return Err(Refusal::new(METHOD_NOT_FOUND, why));
        }
        let [level] = fields(params, ["level"]).unwrap_or_default();
        let known = level.and_then(string).filter(|level| LEVELS.contains(&level.as_str()));
        let spelled = level.map_or("null", |level| level.get());
        let level = known.ok_or_else(|| meta::unknown_level(spelled))?;
        self.level = Some(quoted(&level));
        step.to_client.push(messages::result(id, "{}"));
        Ok(())
    }

    /// Passes a request on, with what the modern era wants to be said in it.
    fn open(&mut self, message: &Envelope<'_>, step: &mut Step) -> Result<(), Refusal> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        let client = key(id);
        if self.calls.of_client(&client).is_some() {
            let why = format!("a request with the id {client} is open");
            return Err(Refusal::new(INVALID_REQUEST, why));
        }
        if self.calls.is_full() {
            return Err(Refusal::new(INTERNAL_ERROR, "too many requests are open"));
        }
        let version = quoted(MODERN);
        let mut says = vec![
            (VERSION, version.as_str()),
            (CLIENT_INFO, &self.said.info),
            (CAPABILITIES, &self.said.capabilities),
        ];
        says.extend(self.level.as_ref().map(|level| (LEVEL, level.as_str())));
        let edits = meta::stated(message, &says).ok_or_else(|| {
            let why = "the parameters, or their _meta, are no object, or say something twice";
            Refusal::new(INVALID_PARAMS, why)
        })?;
        let text = edited(message.text(), edits);
        self.watch(step);
        let asking = self.questions.asking(id.get(), method, &text);
        step.to_server.push(text.into_bytes());
        self.calls.open(client.clone(), client, asking);
        Ok(())
    }

    fn client_notification(&mut self, message: &Envelope<'_>, step: &mut Step) {
        match message.method.as_deref().unwrap_or_default() {
            "notifications/initialized" if matches!(self.stage, Stage::Met) => {
                self.watching.want_lists(&self.abilities);
                self.watch(step);
            }
            // A modern server hears of nothing but of what is cancelled.
            "notifications/initialized"
            | "notifications/roots/list_changed"
            | "notifications/progress" => {}
            "notifications/cancelled" => self.client_cancels(message, step),
            _ => step.to_server.push(message.text().as_bytes().to_vec()),
        }
    }

    fn client_cancels(&mut self, message: &Envelope<'_>, step: &mut Step) {
        let Some(id) = messages::cancels(message) else { return };
        let Some(number) = self.calls.of_client(&key(id)) else { return };
        if let Some(server) = self.calls.get(number).and_then(|call| call.server()) {
            let edit = Edit { part: id.get(), with: server.to_owned() };
            step.to_server.push(edited(message.text(), [edit]).into_bytes());
        }
        self.forget(number, "the request was cancelled", step);
    }

    pub(super) fn of_server(&mut self, message: &Envelope<'_>) -> Step {
        let mut step = Step::default();
        match (message.kind(), message.id) {
            (Kind::Response, Some(id)) => self.server_response(message, &key(id), &mut step),
            (Kind::Notification, _) => self.server_notification(message, &mut step),
            // A modern server asks nothing of its own accord, and is to be given no answer.
            _ => {}
        }
        step
    }

    fn server_response(&mut self, message: &Envelope<'_>, id: &str, step: &mut Step) {
        if let Stage::Meeting { discover, .. } = &self.stage
            && discover == id
        {
            return self.met(message, step);
        }
        if let Some(number) = self.calls.of_server(id) {
            return self.answered(number, message, step);
        }
        let why = message.error.and_then(|error| field(error.get(), "message")).and_then(unquoted);
        let why = why.unwrap_or_else(|| "the server ended the subscription".to_owned());
        self.unwatched(id, &why, step);
    }

    /// The server has said who it is.
    fn met(&mut self, message: &Envelope<'_>, step: &mut Step) {
        let Stage::Meeting { initialize, version, .. } =
            std::mem::replace(&mut self.stage, Stage::Unmet)
        else {
            return;
        };
        match self.introduced(message, &version) {
            Ok(result) => {
                self.stage = Stage::Met;
                step.to_client.push(messages::result(&initialize, &result));
            }
            Err(refusal) => step.to_client.push(refusal.answers(&initialize)),
        }
    }

    fn introduced(&mut self, message: &Envelope<'_>, version: &str) -> Result<String, Refusal> {
        let refused = |why: String| Refusal::new(INTERNAL_ERROR, why);
        if let Some(error) = message.error {
            let said = field(error.get(), "message").and_then(unquoted).unwrap_or_default();
            return Err(refused(format!("the server refused server/discover: {said}")));
        }
        let said = message.result.map_or("{}", |result| result.get());
        let [versions, capabilities, instructions, about] =
            fields(said, ["supportedVersions", "capabilities", "instructions", "_meta"])
                .ok_or_else(|| refused("the server says twice who it is".to_owned()))?;
        let versions = versions.map_or("[]", |versions| versions.get());
        if !versions.contains(&quoted(MODERN)) {
            return Err(refused(format!("the server does not speak {MODERN}, but {versions}")));
        }
        let info = about
            .and_then(|about| field(about.get(), "io.modelcontextprotocol/serverInfo"))
            .unwrap_or(r#"{"name":"unknown","version":"unknown"}"#);
        self.abilities = Abilities::of(capabilities.map_or("{}", |value| value.get()));
        let capabilities = std::mem::take(&mut self.abilities.spelled);
        let instructions = instructions.map(|said| format!(r#","instructions":{}"#, said.get()));
        let (version, instructions) = (quoted(version), instructions.unwrap_or_default());
        Ok(format!(
            r#"{{"protocolVersion":{version},"capabilities":{capabilities},"serverInfo":{info}{instructions}}}"#
        ))
    }

    /// The server is gone, after what it left open was answered for.
    pub(super) fn lost(&mut self, why: &str) -> Step {
        let mut step = Step::default();
        if let Stage::Meeting { initialize, .. } = &self.stage {
            step.to_client.push(Refusal::new(INTERNAL_ERROR, why).answers(initialize));
            self.stage = Stage::Unmet;
        }
        for id in self.watching.lost() {
            step.to_client.push(Refusal::new(INTERNAL_ERROR, why).answers(&id));
        }
        let left = self.calls.iter().filter(|(_, call)| call.server().is_some());
        for number in left.map(|(number, _)| number).collect::<Vec<_>>() {
            self.give_up(number, &Refusal::new(INTERNAL_ERROR, why), &mut step);
        }
        step
    }
}

/// The text of a JSON string.
fn unquoted(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}
