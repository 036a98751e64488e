//! What may pass between a client and its server: which tools are called, and within which limits. No I/O, and no clock
//! of its own; what it need not understand passes byte for byte.
//!
//! ```text
//! client ── of_client ──> server      a refused call is answered, and goes no further
//! client <── of_server ── server      lists lose what is not allowed, long results give way to an error
//!            due                      a call that takes too long is answered, and cancelled
//! client ── take_apart, answer_apart   a call that needs a VM of its own is made elsewhere
//! ```

mod answers;
mod apart;
mod call;
mod call_rates;
mod client;
mod confirm;
mod handshake;
mod id;
mod judge;
mod list;
mod on_behalf;
mod rounds;
mod rules;
mod tool_set;
mod word;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::value::RawValue;

use crate::envelope::{self, Envelope, Kind, fields};
use crate::era::Era;
use crate::protocol::{CLIENT_INFO, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST};
use crate::received::printable;
use crate::schemas::Schemas;
pub use apart::{Apart, Unmade};
use apart::{Handed, Handing};
use call::{Asked, Open};
pub use call::{Body, Ended, Mark, Outcome};
pub use call_rates::CallRates;
pub use client::ClientName;
use confirm::Waiting;
use handshake::Handshake;
use id::Id;
use judge::{Fate, each, is_ambiguous};
pub use on_behalf::OnBehalf;
use rounds::Rounds;
pub(crate) use rules::misfit;
pub use rules::{Rules, too_long};
pub use tool_set::ToolSet;

/// Calls and lists that are open at once. What goes beyond is refused.
const MOST_OPEN: usize = 4096;

/// Longest text that is shown of what a stranger wrote, in characters.
const SHOWN: usize = 120;

/// Watches one conversation.
#[derive(Debug, Default)]
pub struct Guard {
    rules: Rules,
    calls: BTreeMap<Id, Open>,
    /// Calls that the user has not said yes to yet.
    waiting: Waiting,
    /// Of clients that come again: these, and calls that the server has asked back about.
    rounds: Rounds,
    /// Requests for lists, which are learnt from and filtered.
    lists: BTreeSet<Id>,
    /// Requests that were answered in the server's place.
    answered: BTreeSet<Id>,
    client: Option<ClientName>,
    handshake: Handshake,
    schemas: Schemas,
    /// Calls that are not for the server.
    handing: Handing,
    /// Why no tool is called at the moment.
    shut: Option<String>,
    mark: Mark,
    ended: Vec<Ended>,
}

/// What goes where, as lines with their ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passage<'a> {
    pub to_server: Cow<'a, [u8]>,
    pub to_client: Cow<'a, [u8]>,
}

impl Guard {
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// From now on no tool is called, for this reason; or again.
    pub fn shut(&mut self, why: Option<String>) {
        self.shut = why;
    }

    /// What calls that begin from now on are marked with.
    pub fn mark(&mut self, mark: Mark) {
        self.mark = mark;
    }

    pub fn client(&self) -> Option<&ClientName> {
        self.client.as_ref()
    }

    /// Calls that the server has heard, and not answered.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// Calls that are over since this was asked last.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// A line of the client's, with its end.
    pub fn of_client<'a>(&mut self, line: &'a [u8], now: Instant) -> Passage<'a> {
        self.of_client_calling(line, now, &mut |_| {})
    }

    /// The same, and `ready` may tell what holds for a call before it begins. It is asked for nothing else.
    pub fn of_client_calling<'a>(
        &mut self,
        line: &'a [u8],
        now: Instant,
        ready: &mut dyn FnMut(&mut Self),
    ) -> Passage<'a> {
        if self.is_strict() && is_ambiguous(line) {
            let why = "policy refuses a line that can be read in more than one way";
            let to_client = envelope::error(&null(), INVALID_REQUEST, why).into();
            return Passage { to_client, ..Passage::default() };
        }
        let mut answers = Vec::new();
        let to_server = each(line, &mut |message| {
            if calls(message) {
                ready(self);
            }
            self.client_message(message, now, &mut answers)
        });
        Passage { to_server, to_client: answers.into() }
    }

    /// A line of the server's, with its end.
    pub fn of_server<'a>(&mut self, line: &'a [u8], now: Instant) -> Passage<'a> {
        if self.is_strict() && is_ambiguous(line) {
            // A client could find in it what it must not be told.
            return Passage::default();
        }
        let mut answers = Vec::new();
        let to_client = each(line, &mut |message| self.server_message(message, now, &mut answers));
        Passage { to_client, to_server: answers.into() }
    }

    /// When [`due`](Self::due) has something to say, unless something passes before.
    pub fn next_due(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(|call| call.due).min();
        [calls, self.waiting.next_due(), self.rounds.next_due()].into_iter().flatten().min()
    }

    /// What takes too long by now.
    pub fn due(&mut self, now: Instant) -> Passage<'static> {
        let is_due = |_: &Id, call: &mut Open| call.due.is_some_and(|due| due <= now);
        let overdue: Vec<_> = self.calls.extract_if(.., is_due).collect();
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        for (id, call) in overdue {
            let limit = call.due.map(|due| due - call.began).unwrap_or_default().as_secs();
            let why = format!("tool {} did not answer within {limit} s", shown(&call.tool));
            to_client.extend(envelope::error(&call.id, INTERNAL_ERROR, &why));
            to_server.extend(envelope::cancelled(&call.id, &why));
            self.answered_for(id);
            self.ended.push(call.ended(None, Outcome::TimedOut, now));
        }
        to_client.extend(self.unconfirmed(now));
        Passage { to_client: to_client.into(), to_server: to_server.into() }
    }

    /// The conversation is over; what the server has not answered counts as cancelled.
    pub fn end(&mut self, now: Instant) {
        for (_, call) in std::mem::take(&mut self.calls) {
            self.ended.push(call.ended(None, Outcome::Cancelled, now));
        }
        for call in self.waiting.take_all() {
            self.ended.push(call.ended(Outcome::Cancelled, now));
        }
        for call in self.rounds.take_all() {
            self.ended.push(call.ended(Outcome::Cancelled, now));
        }
    }

    /// Whether nothing that a server answers is changed or kept back.
    pub fn passes_answers(&self) -> bool {
        !self.is_strict() && self.answered.is_empty()
    }

    /// Whether there is anything that it could refuse. Only then is what can't be read refused, too.
    fn is_strict(&self) -> bool {
        let Rules { policy, apart, must_be_recorded, .. } = &self.rules;
        let is_limited = self.rules.denies_any()
            || !policy.limits.is_empty()
            || self.rules.rates.as_ref().is_some_and(|rates| !rates.is_empty());
        is_limited || !apart.is_empty() || *must_be_recorded
    }

    fn client_message(
        &mut self,
        message: &Envelope<'_>,
        now: Instant,
        answers: &mut Vec<u8>,
    ) -> Fate {
        if let (Kind::Request, Some(raw)) = (message.kind(), message.id)
            && self.is_strict()
            && Id::of(raw).is_some_and(|id| self.knows(&id))
        {
            // Which of the two a server then answers, nobody could tell.
            let why = "a request with this id was made before, and is not answered";
            answers.extend(envelope::error(raw, INVALID_REQUEST, why));
            return Fate::Stays;
        }
        match (message.kind(), message.method.as_deref()) {
            (Kind::Request, Some("tools/list")) => self.list_asked(message, answers),
            (Kind::Request | Kind::Notification, Some("tools/call")) => {
                self.call_asked(message, now, answers)
            }
            (Kind::Request, Some(method)) => {
                if matches!(method, "initialize" | "server/discover") {
                    self.meet(message);
                }
                if method == "initialize" {
                    self.handshake.begins(message.id);
                }
                self.forget(message);
                Fate::Passes
            }
            (Kind::Notification, Some("notifications/cancelled")) => self.cancelled(message, now),
            (Kind::Response, _) => self.word_given(message, now, answers),
            _ => Fate::Passes,
        }
    }

    fn knows(&self, id: &Id) -> bool {
        let is_open = self.calls.contains_key(id) || self.waiting.has(id);
        is_open || self.lists.contains(id) || self.answered.contains(id)
    }

    /// An id that is used again is no longer that of an earlier request.
    fn forget(&mut self, message: &Envelope<'_>) {
        if let Some(id) = message.id.and_then(Id::of) {
            self.lists.remove(&id);
            self.answered.remove(&id);
        }
    }

    fn list_asked(&mut self, message: &Envelope<'_>, answers: &mut Vec<u8>) -> Fate {
        self.forget(message);
        let Some(raw) = message.id else { return Fate::Passes };
        match Id::of(raw).filter(|_| self.lists.len() < MOST_OPEN) {
            Some(id) => {
                self.lists.insert(id);
                Fate::Passes
            }
            None if !self.rules.denies_any() => Fate::Passes,
            None => {
                answers.extend(envelope::error(raw, INVALID_REQUEST, TOO_MUCH));
                Fate::Stays
            }
        }
    }

    fn call_asked(&mut self, message: &Envelope<'_>, now: Instant, answers: &mut Vec<u8>) -> Fate {
        self.forget(message);
        let Some(asked) = Asked::read(message) else {
            if !self.is_strict() {
                return Fate::Passes;
            }
            let why = "policy refuses a call that names no tool, or more than one";
            return self.refuse(message, None, why, answers);
        };
        if let Some(why) = self.objection(&asked) {
            return self.refuse(message, Some(&asked), &why, answers);
        }
        if let Some(why) = self.schemas.violation(&asked.tool, asked.arguments) {
            return self.misfit(message, &asked, &why, answers);
        }
        if let Some(why) = self.obstacle(message, &asked) {
            return self.refuse(message, Some(&asked), &why, answers);
        }
        if let Some(refusal) = self.unready(&asked) {
            return self.unmade(message, &asked, &refusal, answers);
        }
        if self.rounds.expects(&asked, now) {
            return self.admit(message, &asked, now);
        }
        if Rounds::is_own(&asked) {
            return self.word_brought(message, &asked, now, answers);
        }
        if self.rules.wants_confirmation(&asked.tool) {
            return self.ask(message, &asked, now, answers);
        }
        if let Some(why) = self.rules.exceeds(&asked.tool) {
            return self.refuse(message, Some(&asked), &why, answers);
        }
        self.admit(message, &asked, now)
    }

    /// Has a call that nothing speaks against made: by the server, or elsewhere.
    fn admit(&mut self, message: &Envelope<'_>, asked: &Asked<'_>, now: Instant) -> Fate {
        let id = message.id.filter(|_| message.kind() == Kind::Request);
        let Some((raw, id)) = id.and_then(|raw| Some((raw, Id::of(raw)?))) else {
            // Nobody waits for its answer, which there will be none of.
            let arguments = Body::of(asked.arguments, self.rules.bodies);
            self.ended.push(Ended::unasked(&asked.tool, arguments, Outcome::Ok));
            return Fate::Passes;
        };
        let handed = self.rules.apart.contains(&asked.tool).then(|| self.handing.hand_out(asked));
        let fate = if handed.is_some() { Fate::Stays } else { Fate::Passes };
        self.note_call(id, raw, asked, handed, now);
        fate
    }

    /// Arguments that don't fit are an error of the tool's, which a model may make up for.
    fn misfit(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        why: &str,
        answers: &mut Vec<u8>,
    ) -> Fate {
        let why = misfit(&asked.tool, why);
        if let Some(id) = message.id.filter(|_| message.kind() == Kind::Request) {
            answers.extend(envelope::tool_error(id, &why, asked.era));
        }
        let arguments = Body::of(asked.arguments, self.rules.bodies);
        self.ended.push(Ended::unasked(&asked.tool, arguments, Outcome::Refused(why)));
        Fate::Stays
    }

    fn note_call(
        &mut self,
        id: Id,
        raw: &RawValue,
        asked: &Asked<'_>,
        handed: Option<Handed>,
        now: Instant,
    ) {
        let limits = self.rules.policy.limits_of(&asked.tool);
        let call = Open {
            tool: asked.tool.clone(),
            arguments: Body::of(asked.arguments, self.rules.bodies),
            began: now,
            // Of a VM of its own, all is.
            mark: if handed.is_some() { Mark::default() } else { self.mark },
            // Whoever has it made elsewhere holds it to its time, which is not for a VM to start in.
            due: limits.timeout.filter(|_| handed.is_none()).map(|limit| now + limit),
            max_result_bytes: limits.max_result_bytes,
            id: raw.to_owned(),
            era: asked.era,
            subject: (asked.era == Era::Modern).then(|| asked.subject()),
            handed,
        };
        if let Some(other) = self.calls.insert(id, call) {
            let why = "its client has used its id again".to_owned();
            self.ended.push(other.ended(None, Outcome::Failed(why), now));
        }
    }

    /// Why a call goes no further, if so.
    fn objection(&self, asked: &Asked<'_>) -> Option<String> {
        let limits = self.rules.policy.limits_of(&asked.tool);
        let is_limited = limits.max_result_bytes.is_some() || limits.timeout.is_some();
        let is_limited = is_limited || self.rules.apart.contains(&asked.tool);
        let task = || self.rules.refusing(&asked.tool, &"its limits can't be held for a task");
        self.rules
            .refusal(&asked.tool)
            .or_else(|| (asked.is_task && is_limited).then(task))
            .or_else(|| self.shut.clone())
    }

    /// Why there is no room for a call, if so.
    fn obstacle(&self, message: &Envelope<'_>, asked: &Asked<'_>) -> Option<String> {
        let id = message.id.filter(|_| message.kind() == Kind::Request);
        if id.is_some_and(|id| Id::of(id).is_none() || self.calls.len() >= MOST_OPEN) {
            return Some(TOO_MUCH.to_owned());
        }
        if !self.rules.apart.contains(&asked.tool) {
            return None;
        }
        let why = apart::obstacle(self.open_apart(), id.is_some())?;
        Some(self.rules.refusing(&asked.tool, &why))
    }

    fn refuse(
        &mut self,
        message: &Envelope<'_>,
        asked: Option<&Asked<'_>>,
        why: &str,
        answers: &mut Vec<u8>,
    ) -> Fate {
        if let Some(id) = message.id.filter(|_| message.kind() == Kind::Request) {
            answers.extend(envelope::error(id, INVALID_PARAMS, why));
        }
        let tool = asked.map_or("", |asked| &asked.tool);
        let arguments = Body::of(asked.and_then(|asked| asked.arguments), self.rules.bodies);
        self.ended.push(Ended::unasked(tool, arguments, Outcome::Refused(why.to_owned())));
        Fate::Stays
    }

    fn meet(&mut self, message: &Envelope<'_>) {
        let Some(params) = message.params else { return };
        let known = fields(params.get(), ["clientInfo", "_meta", "capabilities"]);
        let Ok([info, meta, capabilities]) = known else { return };
        if message.method.as_deref() == Some("initialize") {
            self.waiting.meet(capabilities);
        }
        let modern = meta.and_then(|meta| fields(meta.get(), [CLIENT_INFO]).ok()?[0]);
        self.client = info.or(modern).and_then(ClientName::read).or(self.client.take());
    }

    fn cancelled(&mut self, message: &Envelope<'_>, now: Instant) -> Fate {
        let Some(params) = message.params else { return Fate::Passes };
        let Ok([Some(id)]) = fields(params.get(), ["requestId"]) else { return Fate::Passes };
        let Some(id) = Id::of(id) else { return Fate::Passes };
        for call in self.waiting.cancelled(&id) {
            self.ended.push(call.ended(Outcome::Cancelled, now));
        }
        let Some(call) = self.calls.remove(&id) else { return Fate::Passes };
        // The server has not heard of it.
        let is_apart = call.handed.is_some();
        self.ended.push(call.ended(None, Outcome::Cancelled, now));
        if is_apart {
            return Fate::Stays;
        }
        // What the server answers all the same is not held against the call's limits any more.
        self.answered_for(id);
        Fate::Passes
    }

    fn answered_for(&mut self, id: Id) {
        if self.answered.len() >= MOST_OPEN {
            self.answered.pop_first();
        }
        self.answered.insert(id);
    }
}

/// Whether a message may have a call made: it is one, or says what the guard has asked about one.
fn calls(message: &Envelope<'_>) -> bool {
    let is_word = || message.id.and_then(Id::of).is_some_and(|id| Waiting::is_own(&id));
    match message.kind() {
        Kind::Request | Kind::Notification => message.method.as_deref() == Some("tools/call"),
        Kind::Response => is_word(),
    }
}

const TOO_MUCH: &str = "too much is open at once, or the request's id is too long";

fn null() -> Box<RawValue> {
    RawValue::from_string("null".to_owned()).expect("it is JSON")
}

/// Harmless and short.
fn shown(text: &str) -> String {
    printable(text).chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
