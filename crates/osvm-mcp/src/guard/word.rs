//! What the user says to a call: asked for before it is made, and heard however it comes.

use std::time::Instant;

use super::call::{Asked, Body, Outcome};
use super::confirm::{self, Waiting};
use super::id::Id;
use super::judge::Fate;
use super::rounds::bare;
use super::{Guard, OnBehalf};
use crate::envelope::{self, Envelope};
use crate::era::Era;
use crate::protocol::INVALID_PARAMS;

const UNSAID: &str = "its user did not confirm it";
const CROWDED: &str = "nobody had confirmed it when too many others were to be";

impl Guard {
    /// Keeps a call until its user has said yes to it, if there is a way to ask.
    pub(super) fn ask(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        now: Instant,
        answers: &mut Vec<u8>,
    ) -> Fate {
        let holder = self.rules.on_behalf.as_ref().map(OnBehalf::holder);
        let ready = match asked.era {
            Era::Legacy => self.waiting.ready(message),
            Era::Modern => self.rounds.ready(message, asked, holder.unwrap_or_default()),
        };
        let refusal = match ready {
            Ok(()) => self.rules.exceeds(&asked.tool),
            Err(why) => Some(self.rules.refusing(&asked.tool, &why)),
        };
        if let Some(why) = refusal {
            return self.refuse(message, Some(asked), &why, answers);
        }
        let body = Body::of(asked.arguments, self.rules.bodies);
        let server = &self.rules.server;
        answers.extend(match asked.era {
            Era::Legacy => self.waiting.ask(message, asked, server, body, now),
            Era::Modern => {
                if let Some(oldest) = self.rounds.make_room() {
                    let why = self.rules.refusing(&oldest.tool, &CROWDED);
                    self.ended.push(oldest.ended(Outcome::Refused(why), now));
                }
                self.rounds.ask(message, asked, server, body, now)
            }
        });
        Fate::Stays
    }

    /// What the client answers: to a server, or to the guard, whose call then goes on in its place.
    pub(super) fn word_given(
        &mut self,
        message: &Envelope<'_>,
        now: Instant,
        answers: &mut Vec<u8>,
    ) -> Fate {
        let Some(question) = message.id.and_then(Id::of).filter(Waiting::is_own) else {
            return Fate::Passes;
        };
        let Some(call) = self.waiting.take(&question) else { return Fate::Stays };
        let why = match confirm::is_yes(message.result) {
            false => Some(self.rules.refusing(&call.tool, &UNSAID)),
            true => self.shut.clone(),
        };
        let message = Envelope::parse(&call.text).ok();
        let asked = message.as_ref().and_then(|message| Some((message, Asked::read(message)?)));
        let Some((message, asked)) = asked else { return Fate::Stays };
        if let Some(why) = why.or_else(|| self.obstacle(message, &asked)) {
            answers.extend(envelope::error(&call.id, INVALID_PARAMS, &why));
            self.ended.push(call.ended(Outcome::Refused(why), now));
            return Fate::Stays;
        }
        self.admit(message, &asked, now).spelled(call.text)
    }

    /// A call that comes again with what its user has said. The server hears nothing of the question.
    pub(super) fn word_brought(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        now: Instant,
        answers: &mut Vec<u8>,
    ) -> Fate {
        let (Some(call), Some(text)) = (self.rounds.take(asked), bare(message)) else {
            let why = "its requestState was not made for this call, or was used: call it anew";
            let why = self.rules.refusing(&asked.tool, &why);
            return self.refuse(message, Some(asked), &why, answers);
        };
        if !asked.is_confirmed() {
            let why = self.rules.refusing(&asked.tool, &UNSAID);
            if let Some(id) = message.id {
                answers.extend(envelope::error(id, INVALID_PARAMS, &why));
            }
            self.ended.push(call.ended(Outcome::Refused(why), now));
            return Fate::Stays;
        }
        self.admit(message, asked, now).spelled(text)
    }

    /// Gives up the calls that have waited for long enough: what their clients are told.
    pub(super) fn unconfirmed(&mut self, now: Instant) -> Vec<u8> {
        let late = "nobody has confirmed it in time";
        let mut to_client = Vec::new();
        for call in self.waiting.due(now) {
            let why = self.rules.refusing(&call.tool, &late);
            to_client.extend(call.withdrawal(&why));
            to_client.extend(envelope::error(&call.id, INVALID_PARAMS, &why));
            self.ended.push(call.ended(Outcome::Refused(why), now));
        }
        for call in self.rounds.due(now) {
            let why = self.rules.refusing(&call.tool, &late);
            self.ended.push(call.ended(Outcome::Refused(why), now));
        }
        to_client
    }
}
