//! What a server answers: lists are learnt from and filtered, results held to their limits.

use std::time::Instant;

use super::call::{Body, Open, Outcome};
use super::confirm::Waiting;
use super::id::Id;
use super::judge::Fate;
use super::{Guard, call, list, too_long};
use crate::envelope::{self, Envelope, Kind};
use crate::protocol::INVALID_REQUEST;

impl Guard {
    pub(super) fn server_message(
        &mut self,
        message: &Envelope<'_>,
        now: Instant,
        answers: &mut Vec<u8>,
    ) -> Fate {
        let Some(raw) = message.id else { return Fate::Passes };
        let Some(id) = Id::of(raw) else {
            let is_strange = message.kind() == Kind::Response && raw.get() != "null";
            return if is_strange && self.is_strict() { Fate::Stays } else { Fate::Passes };
        };
        if message.kind() == Kind::Request && Waiting::is_own(&id) {
            // The client's answer would be taken for one to the guard.
            answers.extend(envelope::error(raw, INVALID_REQUEST, "this id is not for servers"));
            return Fate::Stays;
        }
        if message.kind() != Kind::Response {
            return Fate::Passes;
        }
        self.handshake.answered(&id, message);
        // What some clients take for the same id, where there is none that is the same.
        for id in [Some(id.clone()), id.alike()].into_iter().flatten() {
            if self.answered.remove(&id) {
                return Fate::Stays;
            }
            if self.lists.remove(&id) {
                return self.list_answered(message);
            }
            let is_apart = self.calls.get(&id).is_some_and(|call| call.handed.is_some());
            if is_apart || self.waiting.has(&id) {
                // It was not asked.
                return Fate::Stays;
            }
            if let Some(call) = self.calls.remove(&id) {
                return self.call_answered(call, message, now);
            }
        }
        Fate::Passes
    }

    fn list_answered(&mut self, message: &Envelope<'_>) -> Fate {
        let Some(result) = message.result else { return Fate::Passes };
        let learnt = list::each_tool(result.get(), &mut |definition| {
            if let Some((name, schema)) = list::tool(definition) {
                self.schemas.learn(&name, schema);
            }
        });
        if !self.rules.denies_any() {
            if learnt.is_err() {
                tracing::warn!("arguments are not checked: a list of tools can't be read");
            }
            return Fate::Passes;
        }
        let keeps = |name: &str| self.rules.shows(name);
        match list::filtered(message.text(), result, &keeps) {
            Ok(None) => Fate::Passes,
            Ok(Some(text)) => Fate::Becomes(text),
            Err(list::Unreadable) => {
                let why =
                    "the server's list of tools can't be read, and policy allows some of them only";
                Fate::instead(message, why)
            }
        }
    }

    pub(super) fn call_answered(
        &mut self,
        call: Open,
        message: &Envelope<'_>,
        now: Instant,
    ) -> Fate {
        let body = message.result.or(message.error);
        let result = Some(Body::of(body, self.rules.bodies));
        let length = body.map_or(0, |body| body.get().len() as u64);
        if let Some(limit) = call.max_result_bytes.filter(|limit| length > *limit) {
            let why = too_long(&call.tool, length, limit);
            let fate = Fate::instead(message, &why);
            self.ended.push(call.ended(result, Outcome::Refused(why), now));
            return fate;
        }
        if let (Some(subject), Some(result)) = (call.subject, message.result) {
            self.rounds.answered(subject, result, now);
        }
        let outcome = match message.result {
            Some(result) => call::outcome(result, call.era),
            None => Outcome::Failed(call::reason(message.error)),
        };
        self.ended.push(call.ended(result, outcome, now));
        Fate::Passes
    }
}
