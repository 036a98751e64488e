//! A modern server's results that ask for input, as questions to a legacy client; its answers, as a retry.

use std::collections::HashMap;

use super::super::messages::{self, Refusal};
use super::super::splice::{Edit, each_field, edited, field, fields, missing, quoted, set};
use super::super::{MAY_ASK, Step};
use super::{LegacyClient, unquoted};
use crate::envelope::Envelope;
use crate::protocol::INTERNAL_ERROR;

/// Bytes of requests that may be made again, and of what clients have answered for them, of all calls together.
const MOST_KEPT: usize = 16 << 20;

/// Questions of one result.
const MOST_ASKED: usize = 16;

/// Results of one call that ask. A server that is never content would go on without an end.
const MOST_ROUNDS: u32 = 32;

/// Which question each id of the bridge's own asks.
#[derive(Debug, Default)]
pub(super) struct Questions {
    calls: HashMap<String, u64>,
    kept: usize,
}

/// A request of the client's that is not answered.
#[derive(Debug)]
pub(super) struct Asking {
    /// The client's, as it is spelled.
    id: String,
    /// As it went to the server, for those that may be made again.
    request: Option<String>,
    rounds: u32,
    asked: Vec<Asked>,
    /// What the server wants to be brought back, as it spelled it.
    state: Option<String>,
    /// Bytes that are kept.
    size: usize,
}

#[derive(Debug)]
struct Asked {
    id: String,
    /// As the server named it.
    name: String,
    method: String,
    answer: Option<String>,
}

impl Questions {
    /// A request that goes to the server as this text.
    pub(super) fn asking(&mut self, id: &str, method: &str, text: &str) -> Asking {
        let is_kept = MAY_ASK.contains(&method) && self.kept + text.len() <= MOST_KEPT;
        let request = is_kept.then(|| text.to_owned());
        let size = request.as_ref().map_or(0, String::len);
        self.kept += size;
        let (id, asked) = (id.to_owned(), Vec::new());
        Asking { id, request, rounds: 0, asked, state: None, size }
    }
}

/// A result that asks.
struct Required<'a> {
    requests: Option<&'a str>,
    state: Option<&'a str>,
}

impl<'a> Required<'a> {
    fn read(message: &Envelope<'a>) -> Option<Self> {
        let result = message.result?.get();
        if field(result, "resultType")? != r#""input_required""# {
            return None;
        }
        let [requests, state] = fields(result, ["inputRequests", "requestState"])?;
        let [requests, state] =
            [requests, state].map(|value| value.map(serde_json::value::RawValue::get));
        Some(Self { requests, state })
    }
}

impl LegacyClient {
    /// What the server answers to a request.
    pub(super) fn answered(&mut self, number: u64, message: &Envelope<'_>, step: &mut Step) {
        if let Some(required) = Required::read(message) {
            if let Err(refusal) = self.require(number, &required, step) {
                self.give_up(number, &refusal, step);
            }
            return;
        }
        let (Some(asking), Some(id)) = (self.close(number), message.id) else { return };
        let edit = Edit { part: id.get(), with: asking.id };
        step.to_client.push(edited(message.text(), [edit]).into_bytes());
    }

    /// Asks the client all that the server wants to know, or makes the request again if that is nothing.
    fn require(
        &mut self,
        number: u64,
        required: &Required<'_>,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let refused = |why: &str| Refusal::new(INTERNAL_ERROR, why);
        let asked = self.read(required.requests.unwrap_or("{}"))?;
        let Some(call) = self.calls.get(number) else { return Ok(()) };
        let asking = &mut call.about;
        if asking.request.is_none() {
            return Err(refused("the server asks for input to a request that can't be made again"));
        }
        asking.rounds += 1;
        let has_none = asked.is_empty() && required.state.is_none();
        if asking.rounds > MOST_ROUNDS || has_none {
            return Err(refused("the server asks again and again, or for nothing"));
        }
        asking.state = required.state.map(str::to_owned);
        let names = asked.iter().map(|(_, asked)| asked.name.len()).sum::<usize>();
        let more = asking.state.as_ref().map_or(0, String::len) + names;
        asking.size += more;
        self.questions.kept += more;
        if self.questions.kept > MOST_KEPT {
            return Err(refused("too much is to be kept until the client has answered"));
        }
        self.calls.set_server(number, None);
        for (question, asked) in asked {
            step.to_client.push(question);
            self.questions.calls.insert(asked.id.clone(), number);
            if let Some(call) = self.calls.get(number) {
                call.about.asked.push(asked);
            }
        }
        self.retry(number, step);
        Ok(())
    }

    /// The questions of a result, with the lines that ask them.
    fn read(&mut self, requests: &str) -> Result<Vec<(Vec<u8>, Asked)>, Refusal> {
        let (mut questions, mut fault) = (Vec::new(), None);
        let read = each_field(requests, &mut |name, request| {
            match self.question(name, request.get()) {
                Ok(question) => questions.push(question),
                Err(refusal) => fault = Some(refusal),
            }
            fault.is_none() && questions.len() <= MOST_ASKED
        });
        match (fault, read) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(())) if questions.len() <= MOST_ASKED => Ok(questions),
            _ => {
                let why =
                    format!("the server does not ask for input by up to {MOST_ASKED} requests");
                Err(Refusal::new(INTERNAL_ERROR, why))
            }
        }
    }

    fn question(&mut self, name: &str, request: &str) -> Result<(Vec<u8>, Asked), Refusal> {
        let [method, params] = fields(request, ["method", "params"]).unwrap_or_default();
        let method = method.and_then(|method| unquoted(method.get())).unwrap_or_default();
        let params = params.map_or("{}", |params| params.get());
        self.said.offers.allow(&method, params).map_err(|missing| {
            let why =
                format!("the server asks for {method:?}, and the client has not stated {missing}");
            Refusal::new(INTERNAL_ERROR, why)
        })?;
        let id = self.ids.next();
        // Which the modern era has no more, and the legacy one wants.
        let is_address = field(params, "mode").is_some_and(|mode| mode == r#""url""#);
        let named = is_address.then(|| missing(params, [("elicitationId", id.as_str())])).flatten();
        let params = edited(params, named);
        let line = messages::request(&id, &method, &params);
        Ok((line, Asked { id, name: name.to_owned(), method, answer: None }))
    }

    /// What the client answers to a question.
    pub(super) fn client_answers(&mut self, id: &str, message: &Envelope<'_>, step: &mut Step) {
        let Some(number) = self.questions.calls.remove(id) else { return };
        let Some(call) = self.calls.get(number) else { return };
        let Some(asked) = call.about.asked.iter_mut().find(|asked| asked.id == id) else { return };
        let Some(answer) = message.result.map(serde_json::value::RawValue::get) else {
            let said = message.error.and_then(|error| field(error.get(), "message"));
            let said = said.and_then(unquoted).unwrap_or_default();
            let why =
                format!("the client refused {}, which the server needs: {said}", asked.method);
            return self.give_up(number, &Refusal::new(INTERNAL_ERROR, why), step);
        };
        if self.questions.kept + answer.len() > MOST_KEPT {
            let why = "what the client answered is too large to be kept";
            return self.give_up(number, &Refusal::new(INTERNAL_ERROR, why), step);
        }
        asked.answer = Some(answer.to_owned());
        call.about.size += answer.len();
        self.questions.kept += answer.len();
        self.retry(number, step);
    }

    /// Makes the request again, once all is answered.
    fn retry(&mut self, number: u64, step: &mut Step) {
        let Some(call) = self.calls.get(number) else { return };
        let asking = &mut call.about;
        let answers: Option<Vec<_>> = asking
            .asked
            .iter()
            .map(|asked| {
                asked.answer.as_ref().map(|answer| format!("{}:{answer}", quoted(&asked.name)))
            })
            .collect();
        let (Some(answers), Some(request)) = (answers, &asking.request) else { return };
        let (id, answers) = (self.ids.next(), format!("{{{}}}", answers.join(",")));
        let mut brings = Vec::new();
        if !asking.asked.is_empty() {
            brings.push(("inputResponses", answers.as_str()));
        }
        brings.extend(asking.state.as_ref().map(|state| ("requestState", state.as_str())));
        let line = again(request, &id, &brings);
        let fetched = asking
            .asked
            .drain(..)
            .map(|Asked { name, answer, .. }| name.len() + answer.map_or(0, |answer| answer.len()));
        let less = fetched.sum::<usize>() + asking.state.take().map_or(0, |state| state.len());
        asking.size -= less;
        self.questions.kept -= less;
        self.watch(step);
        step.to_server.extend(line);
        self.calls.set_server(number, Some(id));
    }

    /// Answers a request that can't be gone on with.
    pub(super) fn give_up(&mut self, number: u64, refusal: &Refusal, step: &mut Step) {
        let Some(id) = self.calls.get(number).map(|call| call.about.id.clone()) else { return };
        step.to_client.push(refusal.answers(&id));
        self.forget(number, "it is not needed any more", step);
    }

    /// Forgets a request, and has the client answer no more questions of it.
    pub(super) fn forget(&mut self, number: u64, why: &str, step: &mut Step) {
        let Some(asking) = self.close(number) else { return };
        for asked in asking.asked.iter().filter(|asked| asked.answer.is_none()) {
            if self.questions.calls.remove(&asked.id).is_some() {
                step.to_client.push(messages::cancelled(&asked.id, why));
            }
        }
    }

    fn close(&mut self, number: u64) -> Option<Asking> {
        let asking = self.calls.remove(number)?.about;
        self.questions.kept -= asking.size;
        Some(asking)
    }
}

/// The request with another id and what it brings.
fn again(request: &str, id: &str, brings: &[(&str, &str)]) -> Option<Vec<u8>> {
    let message = Envelope::parse(request).ok()?;
    let mut edits = set(message.params?.get(), brings)?;
    edits.push(Edit { part: message.id?.get(), with: id.to_owned() });
    Some(edited(request, edits).into_bytes())
}
