//! Requests that end only after the client has answered some questions, as 2026-07-28 has them: no question is asked of
//! the client by itself, but the answer to its request says what to send with the next. What is asked in which round is
//! in `rounds.json`.

use std::collections::BTreeMap;

use rmcp::ErrorData;
use rmcp::model::{ClientCapabilities, InputRequests, InputRequiredResult, InputResponses};
use rmcp::model::{InputRequest, RequestStateCodec};
use serde::Deserialize;
use serde_json::Value;

/// No secret: the suite looks whether a state is checked, and nobody trusts this server.
const KEY: &[u8] = b"the conformance server's own key, which is no secret";

#[derive(Deserialize)]
struct Conversation {
    /// Whether the client is to send back how far it came.
    #[serde(default)]
    stateful: bool,
    rounds: Vec<InputRequests>,
}

/// What a request brought with it.
pub(crate) struct Brought<'a> {
    pub(crate) responses: Option<&'a InputResponses>,
    pub(crate) state: Option<&'a str>,
    pub(crate) capabilities: ClientCapabilities,
}

/// How far a conversation is.
pub(crate) enum Turn {
    Asks(InputRequiredResult),
    Done(String),
}

/// The next turn of a conversation, if this is what ends with one.
pub(crate) fn turn(name: &str, brought: &Brought<'_>) -> Option<Result<Turn, ErrorData>> {
    let conversations: BTreeMap<String, Conversation> =
        serde_json::from_str(include_str!("rounds.json")).expect("a test reads the same file");
    Some(conversations.get(name)?.turn(name, brought))
}

impl Conversation {
    fn turn(&self, name: &str, brought: &Brought<'_>) -> Result<Turn, ErrorData> {
        let codec = RequestStateCodec::try_new(KEY).expect("a key that is long enough");
        let invalid = |why: &str| ErrorData::invalid_params(why.to_owned(), None);
        let round = match (brought.state, brought.responses) {
            (Some(state), _) => codec
                .open_json::<(String, usize)>(state)
                .ok()
                .filter(|(of, round)| of == name && *round < self.rounds.len())
                .map(|(_, round)| round)
                .ok_or_else(|| invalid("the request's state is not as it was given"))?,
            (None, Some(_)) if self.stateful => {
                return Err(invalid("the request's state is missing"));
            }
            (None, _) => 0,
        };
        let asked = self.answerable(round, &brought.capabilities);
        let answers = brought.responses.and_then(|responses| answers(&asked, responses));
        let next = match answers {
            None => round,
            Some(answers) if round + 1 == self.rounds.len() => {
                return Ok(Turn::Done(told(&answers)));
            }
            Some(_) => round + 1,
        };
        let state = self.stateful.then(|| codec.seal_json(&(name, next))).transpose();
        let state = state.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let asked = self.answerable(next, &brought.capabilities);
        Ok(Turn::Asks(InputRequiredResult::new(Some(asked), state)))
    }

    /// The questions of a round that the client says it can answer.
    fn answerable(&self, round: usize, capabilities: &ClientCapabilities) -> InputRequests {
        let can = |request: &InputRequest| match request {
            InputRequest::CreateMessage(_) => capabilities.sampling.is_some(),
            InputRequest::Elicitation(_) => capabilities.elicitation.is_some(),
            InputRequest::ListRoots(_) => capabilities.roots.is_some(),
            _ => false,
        };
        let asked = self.rounds[round].clone().into_iter();
        asked.filter(|(_, request)| can(request)).collect()
    }
}

/// The part of each response that answers, if all that was asked is answered.
fn answers(asked: &InputRequests, responses: &InputResponses) -> Option<Vec<(String, Value)>> {
    let answer = |(name, request): (&String, &InputRequest)| {
        let response = responses.get(name)?;
        let answer = match request {
            InputRequest::CreateMessage(_) => response.pointer("/content/text")?,
            InputRequest::ListRoots(_) => response.get("roots").filter(|roots| roots.is_array())?,
            _ => response.get("content").filter(|_| response["action"] == "accept")?,
        };
        Some((name.clone(), answer.clone()))
    };
    asked.iter().map(answer).collect()
}

/// Greets whoever has told a name, says that the state was good, and what was answered.
fn told(answers: &[(String, Value)]) -> String {
    let name = answers.iter().find(|(asked, _)| asked == "user_name");
    let name = name.and_then(|(_, answer)| answer["name"].as_str());
    let greeting = name.map(|name| format!("Hello, {name}! ")).unwrap_or_default();
    let answers: Vec<_> =
        answers.iter().map(|(asked, answer)| format!("{asked}: {answer}")).collect();
    format!("{greeting}state-ok, {}", answers.join(", "))
}
