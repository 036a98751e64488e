//! Calls that the server of a conversation does not hear: each needs a VM of its own, and is handed to whoever can give it
//! one. All else holds for them as for other calls.

use std::convert::Infallible;
use std::time::Instant;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::call::{Asked, Body, Ended, Open, Outcome};
use super::judge::Fate;
use super::{Guard, Passage, shown};
use crate::bridge::Refusal;
use crate::bridge::splice::{edited, missing};
use crate::envelope::{self, Envelope};
use crate::era::Era;
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS};

/// A call that is to be made elsewhere.
#[derive(Debug)]
pub struct Apart {
    /// By which it is answered.
    pub number: u64,
    pub tool: String,
    /// As the client spelled them.
    pub arguments: Box<RawValue>,
    /// Ends when nobody waits for the call any more.
    pub wanted: oneshot::Receiver<Infallible>,
}

impl Apart {
    /// Of one client at once. What goes beyond is refused.
    pub const MOST: usize = 8;
}

/// Why such a call has no result.
#[derive(Debug, Clone)]
pub enum Unmade {
    /// What its server has answered, as it was spelled.
    Error(Box<RawValue>),
    /// Its arguments don't fit.
    Misfit(String),
    Refused(String),
    TimedOut(String),
    Failed(String),
}

/// What the guard keeps of one, for as long as it is waited for.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) number: u64,
    _wanted: oneshot::Sender<Infallible>,
}

/// Calls on their way out.
#[derive(Debug, Default)]
pub(super) struct Handing {
    count: u64,
    queue: Vec<Apart>,
}

impl Handing {
    pub(super) fn hand_out(&mut self, asked: &Asked<'_>) -> Handed {
        self.count += 1;
        let (number, (end, wanted)) = (self.count, oneshot::channel());
        let none = || RawValue::from_string("{}".to_owned()).expect("it is JSON");
        let arguments = asked.arguments.map_or_else(none, RawValue::to_owned);
        self.queue.push(Apart { number, tool: asked.tool.clone(), arguments, wanted });
        Handed { number, _wanted: end }
    }
}

/// Why one more is not handed out, if so.
pub(super) fn obstacle(open: usize, is_waited_for: bool) -> Option<String> {
    if !is_waited_for {
        return Some("nobody waits for its answer, and it has a microVM of its own".to_owned());
    }
    let most = Apart::MOST;
    let full = || {
        format!("{most} calls in microVMs of their own are open; call it again when one has ended")
    };
    (open >= most).then(full)
}

impl Guard {
    /// Why a call that is to be made elsewhere is none of its era's, if so.
    pub(super) fn unready(&self, asked: &Asked<'_>) -> Option<Refusal> {
        self.rules.apart.contains(&asked.tool).then(|| self.handshake.fault(asked))?
    }

    /// Answers such a call as its server would have.
    pub(super) fn unmade(
        &mut self,
        message: &Envelope<'_>,
        asked: &Asked<'_>,
        refusal: &Refusal,
        answers: &mut Vec<u8>,
    ) -> Fate {
        if let Some(id) = message.id {
            answers.extend(refusal.answers(id.get()));
            answers.push(b'\n');
        }
        let arguments = Body::of(asked.arguments, self.rules.bodies);
        let outcome = Outcome::Failed(shown(&refusal.message));
        self.ended.push(Ended::unasked(&asked.tool, arguments, outcome));
        Fate::Stays
    }

    /// Calls that are to be made elsewhere, since this was asked last.
    pub fn take_apart(&mut self) -> Vec<Apart> {
        std::mem::take(&mut self.handing.queue)
    }

    /// Of these, those that are waited for.
    pub fn open_apart(&self) -> usize {
        self.calls.values().filter(|call| call.handed.is_some()).count()
    }

    /// What became of one of them. Nothing, if nobody waits for it any more.
    pub fn answer_apart(
        &mut self,
        number: u64,
        answer: Result<&RawValue, Unmade>,
        now: Instant,
    ) -> Passage<'static> {
        let is_it = |call: &Open| call.handed.as_ref().is_some_and(|it| it.number == number);
        let found = self.calls.extract_if(.., |_, call| is_it(call)).next();
        let Some((_, call)) = found else { return Passage::default() };
        let (id, era) = (call.id.clone(), call.era);
        let (line, outcome) = match answer {
            Ok(result) => {
                let line = envelope::result(&id, &stated(result, era));
                return self.apart_answered(call, line, now);
            }
            Err(Unmade::Error(error)) => {
                return self.apart_answered(call, envelope::failure(&id, &error), now);
            }
            Err(Unmade::Misfit(why)) => {
                (envelope::tool_error(&id, &why, era), Outcome::Refused(why))
            }
            Err(Unmade::Refused(why)) => {
                (envelope::error(&id, INVALID_PARAMS, &why), Outcome::Refused(why))
            }
            Err(Unmade::TimedOut(why)) => {
                (envelope::error(&id, INTERNAL_ERROR, &why), Outcome::TimedOut)
            }
            Err(Unmade::Failed(why)) => {
                (envelope::error(&id, INTERNAL_ERROR, &why), Outcome::Failed(why))
            }
        };
        self.ended.push(call.ended(None, outcome, now));
        Passage { to_client: line.into(), ..Passage::default() }
    }

    /// A server's own answer, as that of any other call.
    fn apart_answered(&mut self, call: Open, line: Vec<u8>, now: Instant) -> Passage<'static> {
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let Ok(message) = Envelope::parse(&text) else { return Passage::default() };
        let line = match self.call_answered(call, &message, now) {
            Fate::Becomes(other) => (other + "\n").into_bytes(),
            Fate::Passes | Fate::Stays => line,
        };
        Passage { to_client: line.into(), ..Passage::default() }
    }
}

/// A result as the client's era has it, whichever the server's is.
fn stated(result: &RawValue, era: Era) -> Box<RawValue> {
    let edit = match era {
        Era::Modern => missing(result.get(), [("resultType", r#""complete""#)]),
        Era::Legacy => None,
    };
    let text = edited(result.get(), edit);
    RawValue::from_string(text).unwrap_or_else(|_| result.to_owned())
}

#[cfg(test)]
mod tests;
