//! Calls of modern clients that come again: they are asked by the answer to their call, and bring what was said.
//!
//! ```text
//! client ── tools/call ──────────────────────────> asked      input_required, with a state of the guard's own
//! client ── tools/call, inputResponses, state ───> taken      goes on to the server, without these
//! client <── input_required, the server's state ── expected   the retry goes to the server, as it is
//! ```
//!
//! A state of the guard's own is for one call of one client: it is of use once, in ten minutes, and with the same tool
//! and arguments. So is a server's, as far as its retry is neither confirmed nor counted again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::call::{Asked, Body, Ended, INPUT_REQUIRED, Outcome};
use super::confirm::{CANT_ASK, MOST, PATIENCE, PREFIX, question, takes_forms};
use crate::bridge::seal::{Seal, Subject};
use crate::bridge::splice::{Edit, edited, without};
use crate::envelope::{self, Envelope, Kind, field, fields};

/// What the question is called.
const NAME: &str = "osvm-confirm";

/// Retries that a server has asked for. The oldest go, and are then calls like others.
const MOST_EXPECTED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Rounds {
    seal: Option<Seal>,
    /// Of all questions so far.
    count: u64,
    asked: BTreeMap<u64, Unsaid>,
    expected: VecDeque<Expected>,
}

/// A call that was answered with a question.
#[derive(Debug)]
pub(super) struct Unsaid {
    pub(super) tool: String,
    arguments: Body,
    asked: Instant,
}

/// A call that its server has answered with a question.
#[derive(Debug)]
struct Expected {
    subject: Subject,
    /// Digest of the server's state, if it has one.
    state: Option<[u8; 32]>,
    until: Instant,
}

impl Rounds {
    /// Whether a call brings a state of the guard's own, or what looks like one.
    pub(super) fn is_own(asked: &Asked<'_>) -> bool {
        state(asked).is_some_and(|state| state.starts_with(PREFIX))
    }

    /// An error says why a call can't be asked about.
    pub(super) fn ready(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        token: &str,
    ) -> Result<(), &'static str> {
        if message.kind() != Kind::Request || !takes_forms(asked.capabilities) {
            return Err(CANT_ASK);
        }
        if self.seal.is_none() {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|_| "there is no randomness for its question")?;
            self.seal = Some(Seal::new(key, token.as_bytes()));
        }
        Ok(())
    }

    /// The call whose client has let it wait for longest, if there is no room for another: clients that do not come again
    /// say nothing of it.
    pub(super) fn make_room(&mut self) -> Option<Unsaid> {
        let (_, oldest) = (self.asked.len() >= MOST).then(|| self.asked.pop_first())??;
        Some(oldest)
    }

    /// The question as the call's answer. Only of one that is [`ready`](Self::ready).
    pub(super) fn ask(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        server: &str,
        arguments: Body,
        now: Instant,
    ) -> Vec<u8> {
        let (Some(id), Some(seal)) = (message.id, &self.seal) else { return Vec::new() };
        self.count += 1;
        let state = format!("{PREFIX}{}", seal.close(self.count, 0, asked.subject()));
        let mut params = question(asked, server);
        params["mode"] = json!("form");
        let result = json!({
            "resultType": "input_required",
            "inputRequests": { NAME: { "method": "elicitation/create", "params": params } },
            "requestState": state,
        });
        let unsaid = Unsaid { tool: asked.tool.clone(), arguments, asked: now };
        self.asked.insert(self.count, unsaid);
        envelope::result(id, &to_raw_value(&result).expect("it is JSON"))
    }

    /// The call that comes again, if its state was made for it and was not used yet.
    pub(super) fn take(&mut self, asked: &Asked<'_>) -> Option<Unsaid> {
        let state = state(asked)?;
        let sealed = state.strip_prefix(PREFIX)?;
        let (number, _) = self.seal.as_ref()?.open(sealed, asked.subject())?;
        self.asked.remove(&number)
    }

    /// Notes that a server wants to be called again, if that is what it answers.
    pub(super) fn answered(&mut self, subject: Subject, result: &RawValue, now: Instant) {
        let Ok([kind, state]) = fields(result.get(), ["resultType", "requestState"]) else {
            return;
        };
        if kind.map(RawValue::get) != Some(INPUT_REQUIRED) {
            return;
        }
        if self.expected.len() >= MOST_EXPECTED {
            self.expected.pop_front();
        }
        let expected = Expected { subject, state: state.and_then(digest), until: now + PATIENCE };
        self.expected.push_back(expected);
    }

    /// Whether a call is one that its server wants to be made again. It is so once.
    pub(super) fn expects(&mut self, asked: &Asked<'_>, now: Instant) -> bool {
        if self.expected.is_empty() || (asked.state.is_none() && asked.responses.is_none()) {
            return false;
        }
        let (subject, state) = (asked.subject(), asked.state.and_then(digest));
        let is_it = |it: &Expected| it.subject == subject && it.state == state && now < it.until;
        let found = self.expected.iter().position(is_it);
        found.and_then(|at| self.expected.remove(at)).is_some()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.asked.values().map(|call| call.asked + PATIENCE).min()
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Unsaid> {
        let is_due = |_: &u64, call: &mut Unsaid| call.asked + PATIENCE <= now;
        self.asked.extract_if(.., is_due).map(|(_, call)| call).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Unsaid> {
        std::mem::take(&mut self.asked).into_values().collect()
    }
}

impl Unsaid {
    pub(super) fn ended(self, outcome: Outcome, now: Instant) -> Ended {
        let took = now.saturating_duration_since(self.asked);
        Ended { took, ..Ended::unasked(&self.tool, self.arguments, outcome) }
    }
}

impl Asked<'_> {
    /// Whether it brings a yes to the guard's question.
    pub(super) fn is_confirmed(&self) -> bool {
        super::confirm::is_yes(field(self.responses, NAME))
    }
}

/// The message without what is brought to the guard.
pub(super) fn bare(message: &Envelope<'_>) -> Option<String> {
    let part = message.params?.get();
    let with = without(part, &["inputResponses", "requestState"])?;
    Some(edited(message.text(), [Edit { part, with }]))
}

fn state(asked: &Asked<'_>) -> Option<String> {
    serde_json::from_str(asked.state?.get()).ok()
}

/// Of the text, however it is spelled. Of what is no text there is none.
fn digest(state: &RawValue) -> Option<[u8; 32]> {
    let text: String = serde_json::from_str(state.get()).ok()?;
    Some(Sha256::digest(text).into())
}

#[cfg(test)]
mod tests;
