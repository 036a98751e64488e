//! Calls that wait for their user's word: a legacy client is asked by an elicitation, and the call goes on when it
//! accepts. For those of the modern era see `rounds`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::call::{Asked, Body, Ended, Outcome};
use super::id::Id;
use super::shown;
use crate::envelope::{self, Envelope, Kind, field, fields};
use crate::received::printable;

/// With which the guard's ids and states begin; a server's requests may not have such.
pub(super) const PREFIX: &str = "osvm-confirm-";

/// Calls that wait at once, and bytes of each.
pub(super) const MOST: usize = 64;
const LONGEST: usize = 1 << 20;

/// How long the user may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Arguments that are shown, in characters.
const SHOWN_ARGUMENTS: usize = 500;

pub(super) const CANT_ASK: &str = "it is to be confirmed, and this client can't be asked";
const TOO_MUCH: &str = "it is to be confirmed, and too much is waiting for that, or it is too long";

/// Questions that are open.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    calls: BTreeMap<Id, Unconfirmed>,
    /// Whether the client takes questions for its user.
    can_ask: bool,
    /// Of all questions so far.
    count: u64,
    /// So that no server guesses the id of one.
    nonce: u64,
}

/// A call that the server has not heard of yet.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) tool: String,
    pub(super) arguments: Body,
    /// As the client spelled it.
    pub(super) id: Box<RawValue>,
    /// The whole message.
    pub(super) text: String,
    question: Box<RawValue>,
    asked: Instant,
}

impl Waiting {
    /// Whether an id is of the guard's own.
    pub(super) fn is_own(id: &Id) -> bool {
        matches!(id, Id::Text(text) if text.starts_with(PREFIX))
    }

    /// What a client of the legacy era says that it can do.
    pub(super) fn meet(&mut self, capabilities: Option<&RawValue>) {
        self.can_ask = takes_forms(capabilities);
    }

    /// An error says why a call can't be asked about.
    pub(super) fn ready(&mut self, message: &Envelope<'_>) -> Result<(), &'static str> {
        if message.kind() != Kind::Request || !self.can_ask {
            return Err(CANT_ASK);
        }
        if self.calls.len() >= MOST || message.text().len() > LONGEST {
            return Err(TOO_MUCH);
        }
        if self.count == 0 {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).map_err(|_| "there is no randomness for its question")?;
            self.nonce = u64::from_ne_bytes(bytes);
        }
        Ok(())
    }

    /// The question as a line for the client. Only of a call that is [`ready`](Self::ready).
    pub(super) fn ask(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        server: &str,
        arguments: Body,
        now: Instant,
    ) -> Vec<u8> {
        let Some(id) = message.id else { return Vec::new() };
        self.count += 1;
        let name = format!("{PREFIX}{:016x}-{}", self.nonce, self.count);
        let params = to_raw_value(&question(asked, server)).expect("it is JSON");
        let line = envelope::request_named(&name, "elicitation/create", &params);
        let call = Unconfirmed {
            tool: asked.tool.clone(),
            arguments,
            id: id.to_owned(),
            text: message.text().to_owned(),
            question: to_raw_value(&name).expect("a text is JSON"),
            asked: now,
        };
        self.calls.insert(Id::Text(name), call);
        line
    }

    pub(super) fn take(&mut self, question: &Id) -> Option<Unconfirmed> {
        self.calls.remove(question)
    }

    /// Whether a call of that id waits.
    pub(super) fn has(&self, call: &Id) -> bool {
        self.calls.values().any(|other| other.is(call))
    }

    /// Its client no longer wants it.
    pub(super) fn cancelled(&mut self, call: &Id) -> Vec<Unconfirmed> {
        let is_it = |_: &Id, other: &mut Unconfirmed| other.is(call);
        self.calls.extract_if(.., is_it).map(|(_, call)| call).collect()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.asked + PATIENCE).min()
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Unconfirmed> {
        let is_due = |_: &Id, call: &mut Unconfirmed| call.asked + PATIENCE <= now;
        self.calls.extract_if(.., is_due).map(|(_, call)| call).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Unconfirmed> {
        std::mem::take(&mut self.calls).into_values().collect()
    }
}

impl Unconfirmed {
    fn is(&self, call: &Id) -> bool {
        Id::of(&self.id).as_ref() == Some(call)
    }

    pub(super) fn ended(self, outcome: Outcome, now: Instant) -> Ended {
        let took = now.saturating_duration_since(self.asked);
        Ended { took, ..Ended::unasked(&self.tool, self.arguments, outcome) }
    }

    /// Tells the client that its answer is no longer waited for.
    pub(super) fn withdrawal(&self, why: &str) -> Vec<u8> {
        envelope::cancelled(&self.question, why)
    }
}

/// Whether a client's answer to a question is yes.
pub(super) fn is_yes(result: Option<&RawValue>) -> bool {
    let action = result.and_then(|result| fields(result.get(), ["action"]).ok()?[0]);
    action.is_some_and(|action| action.get() == "\"accept\"")
}

/// Whether a client that states these capabilities can be asked to fill in a form.
pub(super) fn takes_forms(capabilities: Option<&RawValue>) -> bool {
    // One that says nothing more means forms.
    let has_forms = |modes: &RawValue| {
        let modes = fields(modes.get(), ["form", "url"]);
        modes.is_ok_and(|[form, url]| form.is_some() || url.is_none())
    };
    field(capabilities, "elicitation").is_some_and(has_forms)
}

/// The parameters of an elicitation.
pub(super) fn question(asked: &Asked<'_>, server: &str) -> Value {
    let schema = json!({ "type": "object", "properties": {} });
    json!({ "message": told(asked, server), "requestedSchema": schema })
}

fn told(asked: &Asked<'_>, server: &str) -> String {
    let arguments = printable(asked.arguments.map_or("{}", RawValue::get));
    let mut kept: String = arguments.chars().take(SHOWN_ARGUMENTS).collect();
    if kept.len() < arguments.len() {
        kept += "...";
    }
    format!("osvm: may tool {} of server {server} be called with {kept}?", shown(&asked.tool))
}
