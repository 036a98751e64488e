//! What a server asks while a call is open, as results that say so and retries that answer.
//!
//! ```text
//! open ── the server asks: input_required ──> waiting ── a retry ──> open
//!                                               │
//!                 nobody retries, in time ──────┴──> given up: the server is told, and asked no more
//! ```
//!
//! A server's request does not say which call it belongs to. It is taken for part of the call whose progress token it
//! carries, else of the one that was opened first of those that the client waits for, else of the first that is open at
//! all; calls whose client can be asked so come first. A wrong guess shows the user the question with another of their calls, and loses nothing: what the user says is
//! the answer to that question, and each call gets its own result.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::calls::Call;
use super::super::messages::{self, Refusal, key};
use super::super::meta::Meta;
use super::super::seal::Subject;
use super::super::splice::{field, fields, quoted, string};
use super::super::{MAY_ASK, Step};
use super::addresses::ANEW;
use super::{Asking, ModernClient, Offers, token};
use crate::envelope::Envelope;
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};

/// Questions of one call that are not answered.
pub(super) const MOST_ASKED: usize = 16;

/// Bytes of questions, and of results that came while questions were open, of all calls together.
const MOST_KEPT: usize = 4 << 20;

/// What a state is that was good once.
pub(super) const USED: &str = "requestState has been used, or its call was given up: ask anew";

/// Longest id of a server's question, in bytes.
const LONGEST_ID: usize = 1 << 10;

/// What a call has been asked, and what came of it meanwhile.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) subject: Subject,
    /// Grows with each result that asks: a state is of use once.
    round: u64,
    asked: VecDeque<Asked>,
    /// Questions that there ever were.
    count: u64,
    /// The answer of a server that did not wait for the client's.
    outcome: Option<String>,
    /// Until when the client may retry.
    until: Option<Instant>,
    /// Bytes that are kept.
    size: usize,
}

#[derive(Debug)]
struct Asked {
    name: String,
    id: String,
    method: String,
    params: Option<String>,
}

impl Asked {
    fn size(&self) -> usize {
        self.params.as_ref().map_or(2, String::len) + self.id.len()
    }
}

impl Inputs {
    /// For the requests that may be answered by asking back.
    pub(super) fn of(method: &str, params: &str) -> Option<Self> {
        MAY_ASK.contains(&method).then(|| Self {
            subject: Subject::of(method, params),
            round: 0,
            asked: VecDeque::new(),
            count: 0,
            outcome: None,
            until: None,
            size: 0,
        })
    }

    /// As a result's `inputRequests`.
    fn requests(&self) -> String {
        let all = self.asked.iter().map(|Asked { name, method, params, .. }| {
            let method = quoted(method);
            let params = params.as_ref().map(|params| format!(r#","params":{params}"#));
            format!(r#""{name}":{{"method":{method}{}}}"#, params.unwrap_or_default())
        });
        format!("{{{}}}", all.collect::<Vec<_>>().join(","))
    }
}

impl ModernClient {
    /// A server's question.
    pub(super) fn input(
        &mut self,
        id: &str,
        method: &str,
        params: Option<&str>,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let said = params.unwrap_or("{}");
        let number = self.asked_of(method, said).ok_or_else(|| {
            let open = MAY_ASK.join(", ");
            let why = format!("{method} can be answered only while one of {open} is open");
            Refusal::new(INVALID_REQUEST, why)
        })?;
        let size = said.len() + id.len();
        let is_too_much = self.kept + size > MOST_KEPT;
        let Some(call) = self.calls.get(number) else { return Ok(()) };
        let is_waited_for = call.client().is_some();
        let Asking { offers, inputs: Some(inputs), .. } = &mut call.about else { return Ok(()) };
        offers.allow(method, said).map_err(|missing| {
            let why = format!("{method}: the client does not state {missing} for this request");
            Refusal::new(METHOD_NOT_FOUND, why)
        })?;
        if is_too_much || inputs.asked.len() >= MOST_ASKED || id.len() > LONGEST_ID {
            return Err(Refusal::new(INTERNAL_ERROR, "too much is asked of the client at once"));
        }
        inputs.count += 1;
        inputs.size += size;
        self.kept += size;
        inputs.asked.push_back(Asked {
            name: format!("input-{}", inputs.count),
            id: id.to_owned(),
            method: method.to_owned(),
            params: params.map(str::to_owned),
        });
        if is_waited_for {
            self.present(number, step);
        }
        Ok(())
    }

    /// The call that a server's question is taken for a part of.
    fn asked_of(&self, method: &str, params: &str) -> Option<u64> {
        let token = field(params, "_meta").and_then(|meta| field(meta, "progressToken"));
        let may_ask = |call: &Call<Asking>| call.about.inputs.is_some() && call.server().is_some();
        let mut first = None;
        for (number, call) in self.calls.iter().filter(|(_, call)| may_ask(call)) {
            if token.is_some() && call.about.token.as_deref() == token {
                return Some(number);
            }
            // One whose client can't be asked so is taken last, and refuses it.
            let is_allowed = call.about.offers.allow(method, params).is_ok();
            let rank = (!is_allowed, call.client().is_none(), number);
            first = Some(first.map_or(rank, |first: (bool, bool, u64)| first.min(rank)));
        }
        first.map(|(_, _, number)| number)
    }

    /// Answers a call with what the server asks.
    fn present(&mut self, number: u64, step: &mut Step) {
        let until = self.now.checked_add(self.patience);
        let Some(call) = self.calls.get(number) else { return };
        let Asking { id, inputs: Some(inputs), .. } = &mut call.about else { return };
        inputs.round += 1;
        inputs.until = until;
        let state = self.seal.close(number, inputs.round, inputs.subject);
        let (requests, state) = (inputs.requests(), quoted(&state));
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{requests},"requestState":{state}}}"#
        );
        step.to_client.push(messages::result(id, &result));
        self.calls.set_client(number, None);
    }

    pub(super) fn is_retry(&self, method: &str, params: &str) -> bool {
        MAY_ASK.contains(&method) && field(params, "requestState").is_some()
    }

    /// Gives the server what it has asked for, and the client what came of it, or the next question.
    pub(super) fn retry(
        &mut self,
        message: &Envelope<'_>,
        client: String,
        meta: &Meta<'_>,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let invalid = |why: &str| Refusal::new(INVALID_PARAMS, why);
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            return Ok(());
        };
        let params = message.params.map_or("{}", |params| params.get());
        let [state, responses] = fields(params, ["requestState", "inputResponses"])
            .ok_or_else(|| invalid("the parameters are no object, or say something twice"))?;
        let subject = Subject::of(method, params);
        let opened = state.and_then(string).and_then(|state| self.seal.open(&state, subject));
        let (number, round) = opened.ok_or_else(|| {
            invalid("requestState was not made for such a request of this client")
        })?;
        let responses = responses.map_or("{}", |responses| responses.get());
        if !responses.starts_with('{') {
            return Err(invalid("inputResponses is no object"));
        }
        if round == ANEW {
            return self.ask_anew(number, message, client, meta, responses, step);
        }
        let call = self.calls.get(number).filter(|call| call.client().is_none());
        let inputs = call.and_then(|call| call.about.inputs.as_ref());
        if inputs.is_none_or(|inputs| inputs.round != round) {
            return Err(invalid(USED));
        }
        self.resume(number, client, id.get(), meta);
        self.log(meta.level.as_deref(), step);
        self.answer(number, responses, step);
        self.go_on(number, step);
        Ok(())
    }

    /// The client waits again, as its retry says.
    fn resume(&mut self, number: u64, client: String, id: &str, meta: &Meta<'_>) {
        self.calls.set_client(number, Some(client));
        let Some(call) = self.calls.get(number) else { return };
        id.clone_into(&mut call.about.id);
        call.about.wants_log = meta.level.is_some();
        call.about.shown = token(meta);
        call.about.offers = Offers::of(meta.capabilities);
        if let Some(inputs) = &mut call.about.inputs {
            inputs.until = None;
        }
    }

    /// Passes on what the client says to what the server has asked.
    fn answer(&mut self, number: u64, responses: &str, step: &mut Step) {
        let inputs = self.calls.get(number).and_then(|call| call.about.inputs.as_mut());
        let Some(inputs) = inputs else { return };
        inputs.asked.retain(|asked| {
            let Some(response) = field(responses, &asked.name) else { return true };
            step.to_server.push(messages::result(&asked.id, response));
            let size = asked.size();
            inputs.size -= size;
            self.kept -= size;
            false
        });
    }

    fn go_on(&mut self, number: u64, step: &mut Step) {
        let inputs = self.calls.get(number).and_then(|call| call.about.inputs.as_mut());
        let Some(inputs) = inputs else { return };
        if let Some(outcome) = inputs.outcome.take() {
            let Some(mut call) = self.close(number) else { return };
            let asked = call.inputs.as_mut().map(|inputs| std::mem::take(&mut inputs.asked));
            for asked in asked.unwrap_or_default() {
                let why = "the client did not say what it was asked";
                step.to_server.push(Refusal::new(INTERNAL_ERROR, why).answers(&asked.id));
            }
            if let Ok(message) = Envelope::parse(&outcome) {
                step.to_client.push(self.told(number, &call, &message));
            }
        } else if !inputs.asked.is_empty() {
            self.present(number, step);
        }
    }

    /// Keeps the answer to a call whose client is to retry first. What it was asked may be another call's, so the server
    /// may wait for that yet.
    pub(super) fn keep(&mut self, number: u64, text: &str) {
        self.calls.set_server(number, None);
        let Some(call) = self.calls.get(number) else { return };
        let Asking { id, inputs: Some(inputs), .. } = &mut call.about else { return };
        let outcome = match self.kept + text.len() <= MOST_KEPT {
            true => text.to_owned(),
            false => {
                let why = "the result came while input was awaited, and is too large to be kept";
                let answer = Refusal::new(INTERNAL_ERROR, why).answers(id);
                String::from_utf8_lossy(&answer).into_owned()
            }
        };
        inputs.size += outcome.len();
        self.kept += outcome.len();
        inputs.outcome = Some(outcome);
    }

    /// The server that has asked is gone.
    pub(super) fn unask(&mut self) {
        for number in self.calls.iter().map(|(number, _)| number).collect::<Vec<_>>() {
            let inputs = self.calls.get(number).and_then(|call| call.about.inputs.as_mut());
            let Some(inputs) = inputs else { continue };
            let asked = inputs.asked.drain(..);
            let size: usize = asked.map(|asked| asked.size()).sum();
            inputs.size -= size;
            self.kept -= size;
        }
    }

    /// Forgets a call that is answered.
    pub(super) fn close(&mut self, number: u64) -> Option<Asking> {
        let call = self.calls.remove(number)?;
        self.kept -= call.about.inputs.as_ref().map_or(0, |inputs| inputs.size);
        Some(call.about)
    }

    /// Forgets a call that is not: what the server asks for it is refused.
    pub(super) fn forget(&mut self, number: u64, why: &str, step: &mut Step) {
        let Some(Asking { inputs: Some(inputs), .. }) = self.close(number) else { return };
        for asked in inputs.asked {
            step.to_server.push(Refusal::new(INTERNAL_ERROR, why).answers(&asked.id));
        }
    }

    /// A question that the server takes back.
    pub(super) fn server_cancels(&mut self, message: &Envelope<'_>) {
        let Some(id) = messages::cancels(message) else { return };
        let id = key(id);
        let is_it = |asked: &Asked| {
            serde_json::from_str(&asked.id)
                .is_ok_and(|asked: &serde_json::value::RawValue| key(asked) == id)
        };
        let asked = self.calls.iter().find(|(_, call)| {
            call.about.inputs.as_ref().is_some_and(|inputs| inputs.asked.iter().any(is_it))
        });
        let Some((number, _)) = asked else { return };
        if let Some(inputs) = self.calls.get(number).and_then(|call| call.about.inputs.as_mut()) {
            inputs.asked.retain(|asked| !is_it(asked));
        }
    }

    /// Until when the first of those calls waits that a client is to retry.
    pub(in super::super) fn expires(&self) -> Option<Instant> {
        let inputs = self.calls.iter().filter_map(|(_, call)| call.about.inputs.as_ref());
        inputs.filter_map(|inputs| inputs.until).min()
    }

    /// Gives up the calls that have waited for long enough.
    pub(in super::super) fn expire(&mut self, now: Instant) -> Step {
        let mut step = Step::default();
        let is_over = |inputs: &Inputs| inputs.until.is_some_and(|until| until <= now);
        let over =
            self.calls.iter().filter(|(_, call)| call.about.inputs.as_ref().is_some_and(is_over));
        for number in over.map(|(number, _)| number).collect::<Vec<_>>() {
            let why = "the client did not say in time what it was asked";
            if let Some(server) = self.calls.get(number).and_then(|call| call.server()) {
                step.to_server.push(messages::cancelled(server, why));
            }
            self.forget(number, why, &mut step);
        }
        step
    }
}
