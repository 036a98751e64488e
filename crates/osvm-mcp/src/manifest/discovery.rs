//! One conversation with a server that is not there as long as its manifest has the answers.
//!
//! ```text
//! no server:  request ── answer ──> what the manifest has, noted as told
//! it starts:  checks ── what was told is asked of it ── heard ──> the same, or Changed
//! it is there: asked, heard ──> news for the manifest, until it is used
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;

use super::question::{GREETINGS, INITIALIZE, Question};
use super::{Change, Introduction, Manifest, News, Said};
use crate::envelope::{self, Envelope, Kind, field, fields};
use crate::era::Era;
use crate::lines;
use crate::protocol::{CAPABILITIES, CLIENT_INFO, METHOD_NOT_FOUND, VERSION};

/// Questions of one conversation that are remembered at once.
const MOST_OPEN: usize = 256;
/// Clients that are remembered of one conversation.
const MOST_CLIENTS: usize = 16;
/// What is learnt in one conversation: of a server that says each time something else, no more.
const MOST_NEWS: usize = 64;
/// Longest notification that is looked at, in bytes.
const LONGEST_NOTE: usize = 4 << 10;
/// Longest answer that is compared with another, in bytes.
const LONGEST_COMPARED: usize = 1 << 20;

/// By which a server's answers stay what they are.
const HARMLESS: [&str; 4] = ["ping", "logging/setLevel", "resources/list", "subscriptions/listen"];
/// What a client may say that a server need not be there for.
const UNHEARD: [&str; 4] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

pub struct Discovery {
    manifest: Manifest,
    news: Vec<News>,
    /// How many there were.
    learnt: usize,
    /// Of a client that has begun with one.
    handshake: Option<String>,
    /// All that have asked anything.
    clients: BTreeSet<String>,
    /// What a server has been asked, by ids.
    open: BTreeMap<String, Question>,
    /// What was answered without one, with the parameters of a check.
    told: BTreeMap<Question, Box<RawValue>>,
    /// What was told and is being asked, by ids.
    checks: BTreeMap<String, Check>,
    ids: Ids,
    /// Whether the server may have been asked for anything by which its answers have become others.
    is_used: bool,
}

/// Whom a server's line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The conversation.
    Passes,
    /// Nobody else.
    Own,
    /// Nobody else. What the client was told is right no more, and this notification says so.
    Changed(&'static str),
}

struct Check {
    question: Question,
    params: Box<RawValue>,
    /// Whether it was asked after the server was used.
    is_late: bool,
}

/// Of requests that no client has made.
struct Ids {
    word: String,
    last: u64,
}

impl Discovery {
    pub fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            news: Vec::new(),
            learnt: 0,
            handshake: None,
            clients: BTreeSet::new(),
            open: BTreeMap::new(),
            told: BTreeMap::new(),
            checks: BTreeMap::new(),
            ids: Ids::new(),
            is_used: true,
        }
    }

    /// As what the server was met for clients of that era.
    pub fn introduction(&self, era: Era) -> Option<&Introduction> {
        self.manifest.introductions.get(&era)
    }

    pub fn introduced(&mut self, era: Era, server: Introduction) {
        self.note(Change::Introduced(era, server));
    }

    /// A server is there, in a VM in which none has been used, or one has.
    pub fn begins(&mut self, is_used: bool) {
        self.is_used = is_used;
    }

    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// The server is gone. What it was to be held against, another is held against.
    pub fn lost(&mut self) {
        self.open.clear();
        let checks = std::mem::take(&mut self.checks).into_values();
        self.told.extend(checks.map(|check| (check.question, check.params)));
        self.is_used = true;
    }

    /// The answer to a request for which no server is there, if none is needed.
    pub fn answer(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let text = lines::text(line);
        let message = Envelope::parse(&text).ok()?;
        let id = message.id.filter(|_| message.kind() == Kind::Request)?;
        if message.method.as_deref() == Some("ping") {
            return Some(envelope::empty_result(id));
        }
        let question = self.question(&message)?;
        let answer = self.manifest.said(&question)?.answers(id);
        if question.method != INITIALIZE {
            self.told.insert(question, whose(message.params));
        }
        Some(answer)
    }

    /// Whether a line that is no request has a server be there which is not yet.
    pub fn needs_server(&self, line: &[u8]) -> bool {
        let text = lines::text(line);
        Envelope::parse(&text).map_or(true, |message| {
            message.method.is_some_and(|method| !UNHEARD.contains(&method.as_str()))
        })
    }

    /// What was told without a server, as requests to the one that is there now.
    pub fn checks(&mut self) -> Vec<Vec<u8>> {
        let told = std::mem::take(&mut self.told).into_iter();
        let asks = told.map(|(question, params)| {
            let id = self.ids.next();
            let request = envelope::request_named(&id, question.method, &params);
            let check = Check { question, params, is_late: self.is_used };
            self.checks.insert(format!("\"{id}\""), check);
            request
        });
        asks.collect()
    }

    /// Notes a line that is written to a server.
    pub fn asked(&mut self, line: &[u8]) {
        let text = lines::text(line);
        let Ok(message) = Envelope::parse(&text) else {
            self.is_used = true;
            return;
        };
        let method = message.method.as_deref().unwrap_or_default();
        match (message.kind(), message.id) {
            (Kind::Request, Some(id)) => {
                self.open.remove(id.get());
                match self.question(&message) {
                    Some(question) if self.open.len() < MOST_OPEN => {
                        self.open.insert(id.get().to_owned(), question);
                    }
                    Some(_) => {}
                    None => self.is_used |= !HARMLESS.contains(&method),
                }
            }
            // What the client answers may be what the server goes by.
            (Kind::Response, _) => self.is_used |= message.result.is_some(),
            _ => {
                if method == "notifications/cancelled" {
                    self.open.clear();
                }
                self.is_used |= !UNHEARD.contains(&method);
            }
        }
    }

    fn question(&mut self, message: &Envelope<'_>) -> Option<Question> {
        let question = Question::of(message, self.handshake.as_deref())?;
        if question.method == INITIALIZE && self.handshake.as_ref() != Some(&question.client) {
            self.told.clear();
            self.handshake = Some(question.client.clone());
        }
        if self.clients.len() < MOST_CLIENTS {
            self.clients.insert(question.client.clone());
        }
        Some(question)
    }

    /// Takes a line of a server's.
    pub fn heard(&mut self, line: &[u8]) -> Heard {
        let owes_nothing = self.open.is_empty() && self.checks.is_empty();
        // What a used server tells without being asked is not learnt.
        if owes_nothing && (self.is_used || line.len() > LONGEST_NOTE) {
            return Heard::Passes;
        }
        let text = lines::text(line);
        let Ok(message) = Envelope::parse(&text) else { return Heard::Passes };
        match (message.kind(), message.id) {
            (Kind::Response, Some(id)) => self.answered(id.get(), &message),
            (Kind::Notification, _) => {
                self.notified(message.method.as_deref().unwrap_or_default());
                Heard::Passes
            }
            _ => Heard::Passes,
        }
    }

    fn answered(&mut self, id: &str, message: &Envelope<'_>) -> Heard {
        if let Some(Check { question, is_late, .. }) = self.checks.remove(id) {
            let (then, now) = (self.manifest.said(&question), self.said(&question, message));
            let is_same = then.zip(now.as_ref()).is_some_and(|(then, now)| is_same(then, now));
            let changed = question.changed().filter(|_| !is_same);
            self.learn(question, now, is_late);
            return changed.map_or(Heard::Own, Heard::Changed);
        }
        if let Some(question) = self.open.remove(id) {
            if question.method == INITIALIZE && message.error.is_some() {
                // Whoever refuses what it had agreed to is not who it was.
                self.note(Change::Estranged);
            } else {
                let said = self.said(&question, message);
                self.learn(question, said, self.is_used);
            }
        }
        Heard::Passes
    }

    /// What is kept of an answer: a page that is the whole list, or that there is none, by a server that has not said
    /// that it has one.
    fn said(&self, question: &Question, message: &Envelope<'_>) -> Option<Said> {
        if let Some(result) = message.result {
            let more = field(Some(result), "nextCursor").filter(|more| more.get() != "null");
            return more.is_none().then(|| Said::Result(result.to_owned()));
        }
        let (error, capability) = (message.error?, question.capability()?);
        let code = field(Some(error), "code").and_then(|code| code.get().parse::<i64>().ok());
        let is_missing = code == Some(METHOD_NOT_FOUND);
        let lacks = |greeting: &'static str| match self.manifest.said(&question.sibling(greeting)) {
            Some(Said::Result(said)) => {
                field(field(Some(said), "capabilities"), capability).is_none()
            }
            _ => false,
        };
        (is_missing && GREETINGS.into_iter().any(lacks)).then(|| Said::Error(error.to_owned()))
    }

    /// What a server says after it was used is not what it says first.
    fn learn(&mut self, question: Question, said: Option<Said>, is_late: bool) {
        let known = self.manifest.said(&question);
        if !is_late && said.as_ref().map(Said::text) != known.map(Said::text) {
            self.note(Change::Learnt(question, said));
        }
    }

    fn notified(&mut self, note: &str) {
        let Some(method) = Question::told_by(note) else { return };
        for client in self.clients.clone() {
            self.learn(Question { client, method }, None, self.is_used);
        }
    }

    fn note(&mut self, change: Change) {
        if self.learnt < MOST_NEWS {
            self.learnt += 1;
            self.manifest.add(News(change.clone()));
            self.news.push(News(change));
        }
    }

    /// What was learnt since this was asked.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

impl Ids {
    fn new() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("Linux always has getrandom");
        let word = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { word, last: 0 }
    }

    fn next(&mut self) -> String {
        self.last += 1;
        format!("osvm-manifest-{}-{}", self.word, self.last)
    }
}

/// The parameters of a question, of which nothing is left but who asks it.
fn whose(params: Option<&RawValue>) -> Box<RawValue> {
    let names = [VERSION, CLIENT_INFO, CAPABILITIES];
    let meta = field(params, "_meta").and_then(|meta| fields(meta.get(), names).ok());
    let said = meta.into_iter().flat_map(|meta| names.into_iter().zip(meta));
    let said = said.filter_map(|(name, value)| Some(format!(r#""{name}":{}"#, value?.get())));
    let said: Vec<_> = said.collect();
    let params = match said.is_empty() {
        true => "{}".to_owned(),
        false => format!(r#"{{"_meta":{{{}}}}}"#, said.join(",")),
    };
    RawValue::from_string(params).expect("values were taken from JSON")
}

/// Whether two answers say the same, in whatever order they say it, and whatever they say beside it.
fn is_same(then: &Said, now: &Said) -> bool {
    let read = |said: &RawValue| {
        let mut said: Value = (said.get().len() <= LONGEST_COMPARED)
            .then(|| serde_json::from_str(said.get()).ok())??;
        let object = said.as_object_mut()?;
        object.retain(|name, _| !["_meta", "ttlMs", "cacheScope"].contains(&name.as_str()));
        for value in object.values_mut() {
            if let Value::Array(items) = value {
                items.sort_by_cached_key(Value::to_string);
            }
        }
        Some(said)
    };
    match (then, now) {
        (Said::Error(_), Said::Error(_)) => true,
        (Said::Result(then), Said::Result(now)) => {
            then.get() == now.get() || read(then).is_some_and(|then| Some(then) == read(now))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    const LIST: &str = r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#;
    const CALL: &str =
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a","arguments":{}}}"#;
    const TOOLS: &str = r#"{"tools":[{"name":"a"},{"name":"b"}]}"#;
    const CHANGED: &str = "notifications/tools/list_changed";

    fn answer(id: &str, result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
    }

    fn note(method: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)
    }

    /// One that has heard the handshake and the tools.
    fn taught() -> Discovery {
        let mut discovery = Discovery::new(Manifest::default());
        assert_eq!(discovery.answer(HELLO.as_bytes()), None);
        discovery.begins(false);
        discovery.asked(HELLO.as_bytes());
        discovery.heard(answer("0", r#"{"capabilities":{}}"#).as_bytes());
        discovery.asked(LIST.as_bytes());
        discovery.heard(answer("\"l\"", TOOLS).as_bytes());
        discovery
    }

    /// What the next session knows.
    fn next(discovery: &mut Discovery) -> Discovery {
        let mut manifest = Manifest::default();
        discovery.take_news().into_iter().for_each(|news| manifest.add(news));
        Discovery::new(Manifest::parse(&manifest.to_text()))
    }

    fn tools(discovery: &mut Discovery) -> Option<String> {
        discovery.answer(HELLO.as_bytes())?;
        Some(String::from_utf8(discovery.answer(LIST.as_bytes())?).unwrap())
    }

    #[test]
    fn what_a_server_said_once_is_said_without_it() {
        let mut discovery = next(&mut taught());
        assert_eq!(tools(&mut discovery), Some(answer("\"l\"", TOOLS)));
        assert_eq!(discovery.answer(CALL.as_bytes()), None);
        let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
        let pong = discovery.answer(ping.as_bytes()).unwrap();
        assert_eq!(pong.trim_ascii_end(), answer("7", "{}").as_bytes());
        assert_eq!(discovery.answer(note("notifications/initialized").as_bytes()), None);

        let other = HELLO.replace(r#""capabilities":{}"#, r#""capabilities":{"roots":{}}"#);
        assert_eq!(discovery.answer(other.as_bytes()), None);
        assert_eq!(discovery.answer(LIST.as_bytes()), None, "of the other kind of client");
    }

    /// The answer to the only check that there is.
    fn checked(discovery: &mut Discovery, result: &str) -> Heard {
        discovery.begins(false);
        let checks = discovery.checks();
        let [check] = &checks[..] else { panic!("{checks:?}") };
        let check = String::from_utf8(check.clone()).unwrap();
        let check = Envelope::parse(check.trim_end()).unwrap();
        assert_eq!(check.method.as_deref(), Some("tools/list"));
        let told = answer(check.id.unwrap().get(), result);
        assert_eq!(discovery.checks(), Vec::<Vec<u8>>::new());
        discovery.heard(told.as_bytes())
    }

    #[test]
    fn a_server_that_starts_later_is_held_against_what_was_told() {
        let mut discovery = next(&mut taught());
        tools(&mut discovery).unwrap();
        let same = r#"{ "tools":[{"name":"b"},{"name":"a"}],"_meta":{"at":7}}"#;
        assert_eq!(checked(&mut discovery, same), Heard::Own);
        tools(&mut discovery).unwrap();
        let other = r#"{"tools":[{"name":"a"}]}"#;
        assert_eq!(checked(&mut discovery, other), Heard::Changed(CHANGED));
        assert_eq!(tools(&mut discovery), Some(answer("\"l\"", other)));
    }

    #[test]
    fn only_what_a_server_says_before_it_is_used_is_what_it_says_first() {
        let mut discovery = taught();
        discovery.asked(CALL.as_bytes());
        discovery.heard(note(CHANGED).as_bytes());
        discovery.asked(LIST.as_bytes());
        assert_eq!(discovery.heard(answer("\"l\"", "{}").as_bytes()), Heard::Passes);
        let mut later = next(&mut discovery);
        assert_eq!(tools(&mut later), Some(answer("\"l\"", TOOLS)));

        let mut discovery = taught();
        discovery.heard(note(CHANGED).as_bytes());
        assert_eq!(tools(&mut next(&mut discovery)), None);
    }

    #[test]
    fn what_a_used_server_says_is_not_learnt() {
        let response = r#"{"jsonrpc":"2.0","id":"roots","result":{"roots":[]}}"#;
        for said in [CALL, response, &note("notifications/x"), "?", "[]"] {
            let mut discovery = Discovery::new(Manifest::default());
            discovery.begins(false);
            discovery.asked(HELLO.as_bytes());
            discovery.asked(said.as_bytes());
            assert!(discovery.is_used(), "{said}");
            discovery.asked(LIST.as_bytes());
            discovery.heard(answer("\"l\"", TOOLS).as_bytes());
            assert_eq!(next(&mut discovery).answer(LIST.as_bytes()), None);
        }
        let mut discovery = taught();
        for harmless in ["ping", "logging/setLevel", "resources/list"] {
            discovery.asked(CALL.replace("tools/call", harmless).as_bytes());
        }
        assert!(!discovery.is_used());
    }

    #[test]
    fn of_errors_only_a_missing_method_is_kept_of_a_server_that_has_not_said_to_have_it() {
        let without = r#"{"capabilities":{}}"#;
        let with = r#"{"capabilities":{"tools":{}}}"#;
        for (hello, code, kept) in
            [(without, -32601, true), (without, -32603, false), (with, -32601, false)]
        {
            let mut discovery = Discovery::new(Manifest::default());
            discovery.begins(false);
            discovery.asked(HELLO.as_bytes());
            discovery.heard(answer("0", hello).as_bytes());
            let error =
                format!(r#"{{"jsonrpc":"2.0","id":"l","error":{{"code":{code},"message":"m"}}}}"#);
            discovery.asked(LIST.as_bytes());
            discovery.heard(error.as_bytes());
            assert_eq!(tools(&mut next(&mut discovery)), kept.then_some(error));
        }
    }

    #[test]
    fn a_server_that_refuses_a_handshake_is_not_who_it_was() {
        let mut discovery = taught();
        discovery.asked(HELLO.as_bytes());
        let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"m"}}"#;
        discovery.heard(refusal.as_bytes());
        let mut later = next(&mut discovery);
        assert_eq!(later.answer(HELLO.as_bytes()), None);
        assert_eq!(later.answer(LIST.as_bytes()), None);
    }

    #[test]
    fn a_part_of_a_list_is_not_kept() {
        let mut discovery = taught();
        discovery.asked(LIST.as_bytes());
        discovery.heard(answer("\"l\"", r#"{"tools":[],"nextCursor":"x"}"#).as_bytes());
        assert_eq!(tools(&mut next(&mut discovery)), None);
    }

    #[test]
    fn a_server_that_changes_its_mind_again_and_again_is_heard_so_often() {
        let mut discovery = taught();
        for round in 0..2 * MOST_NEWS {
            discovery.asked(LIST.as_bytes());
            discovery.heard(answer("\"l\"", &format!(r#"{{"tools":[{round}]}}"#)).as_bytes());
        }
        assert_eq!(discovery.take_news().len(), MOST_NEWS);
    }

    #[test]
    fn what_a_server_did_not_live_to_be_held_against_is_left_for_the_next() {
        let mut discovery = next(&mut taught());
        tools(&mut discovery).unwrap();
        let check = discovery.checks();
        discovery.lost();
        let id = Envelope::parse(std::str::from_utf8(&check[0]).unwrap().trim_end());
        let late = answer(id.unwrap().id.unwrap().get(), "{}");
        assert_eq!(discovery.heard(late.as_bytes()), Heard::Passes);
        assert!(discovery.take_news().is_empty());
        assert_eq!(checked(&mut discovery, TOOLS), Heard::Own);
    }

    #[test]
    fn checks_say_who_asks_and_nothing_else() {
        let meta = r#"{"progressToken":1,"io.modelcontextprotocol/logLevel":"debug","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{ }}"#;
        let params = RawValue::from_string(format!(r#"{{"_meta":{meta}}}"#)).unwrap();
        let expected = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{ }}}"#;
        assert_eq!(whose(Some(&params)).get(), expected);
        assert_eq!(whose(None).get(), "{}");
    }

    #[test]
    fn a_server_need_not_be_there_for_what_only_one_that_was_there_would_hear() {
        let discovery = Discovery::new(Manifest::default());
        let needs = |line: &str| discovery.needs_server(line.as_bytes());
        assert!(!needs(&note("notifications/initialized")) && !needs(&answer("1", "{}")));
        assert!(needs(&note("notifications/x")) && needs("?"));
    }
}
