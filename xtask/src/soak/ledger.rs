//! What one client has asked and what it was told: each request is answered once, where it was asked, with its own
//! answer. Whatever else happens is a fault.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// No answer came.
    Lost,
    /// Another came after the first.
    Doubled,
    /// It was somebody else's, or came where something else was asked.
    Crossed,
    /// An error, or what is no answer at all.
    Failed,
}

/// What should not be, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) what: String,
}

/// What an answer must be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) server: String,
    pub(super) holds: String,
    /// An error of the tool's.
    pub(super) fails: bool,
}

pub(super) struct Ledger {
    client: String,
    page: Mutex<Page>,
}

#[derive(Default)]
struct Page {
    open: HashMap<u64, Expected>,
    answered: HashSet<u64>,
    faults: Vec<Fault>,
}

impl Ledger {
    pub(super) fn of(client: &str) -> Self {
        Self { client: client.to_owned(), page: Mutex::default() }
    }

    pub(super) fn ask(&self, id: u64, expected: Expected) {
        self.page().open.insert(id, expected);
    }

    /// A message that came where that request was asked, or beside all of them.
    pub(super) fn hear(&self, asked: Option<u64>, message: &Value) {
        match (message.get("method"), message.get("id")) {
            (Some(_), None) => {}
            (Some(method), Some(_)) => {
                self.fault(
                    Kind::Failed,
                    &format!("was asked {method}, to which it had not agreed"),
                );
            }
            (None, id) => match id.and_then(Value::as_u64) {
                Some(id) if Some(id) == asked => self.settle(id, message),
                Some(id) => self.stray(id, asked),
                None => {
                    self.fault(Kind::Failed, &format!("an answer has no id: {}", short(message)));
                }
            },
        }
    }

    fn settle(&self, id: u64, message: &Value) {
        let mut page = self.page();
        let Some(expected) = page.open.remove(&id) else {
            let kind = if page.answered.contains(&id) { Kind::Doubled } else { Kind::Crossed };
            drop(page);
            return self
                .fault(kind, &format!("request {id} was answered again: {}", short(message)));
        };
        page.answered.insert(id);
        drop(page);
        if let Some(kind) = expected.wrong(message) {
            let (server, holds) = (&expected.server, &expected.holds);
            let what = format!("request {id} of {server} wants {holds:?}: {}", short(message));
            self.fault(kind, &what);
        }
    }

    /// The request itself may still be answered.
    fn stray(&self, id: u64, asked: Option<u64>) {
        let is_answered = self.page().answered.contains(&id);
        let kind = if is_answered { Kind::Doubled } else { Kind::Crossed };
        let place =
            asked.map_or_else(|| "beside all requests".to_owned(), |id| format!("to request {id}"));
        self.fault(kind, &format!("an answer to request {id} came {place}"));
    }

    /// What came in the place of an answer.
    pub(super) fn fail(&self, id: u64, why: &str) {
        self.page().answered.insert(id);
        let server = self.page().open.remove(&id).map(|expected| expected.server);
        let server = server.unwrap_or_default();
        self.fault(Kind::Failed, &format!("request {id} of {server}: {why}"));
    }

    /// Whether it was, and no more can come.
    pub(super) fn over(&self, id: u64) {
        let left = self.page().open.remove(&id);
        if let Some(expected) = left {
            let server = &expected.server;
            self.fault(Kind::Lost, &format!("request {id} of {server} has no answer"));
        }
    }

    /// All that was found, with what was never answered.
    pub(super) fn close(&self) -> Vec<Fault> {
        let open: Vec<_> = self.page().open.keys().copied().collect();
        open.into_iter().for_each(|id| self.over(id));
        self.page().faults.clone()
    }

    pub(super) fn faults(&self) -> usize {
        self.page().faults.len()
    }

    pub(super) fn fault(&self, kind: Kind, what: &str) {
        self.page().faults.push(Fault { kind, what: format!("{}: {what}", self.client) });
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    /// Whether an answer is another than that, and why.
    fn wrong(&self, answer: &Value) -> Option<Kind> {
        let Some(result) = answer.get("result") else { return Some(Kind::Failed) };
        let fails = result["isError"].as_bool().unwrap_or(false);
        match (text(result).contains(&self.holds), fails == self.fails) {
            (true, true) => None,
            (_, false) => Some(Kind::Failed),
            (false, true) => Some(Kind::Crossed),
        }
    }
}

/// What a tool's result says.
fn text(result: &Value) -> String {
    let content = result["content"].as_array().into_iter().flatten();
    content.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn short(message: &Value) -> String {
    const LONG: usize = 300;
    let text = message.to_string();
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(ids: &[u64]) -> Ledger {
        let ledger = Ledger::of("client 1");
        for id in ids {
            let holds = format!("mark {id}.");
            ledger.ask(*id, Expected { server: "one".to_owned(), holds, fails: false });
        }
        ledger
    }

    fn answer(id: u64, text: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [{ "type": "text", "text": text }] } })
    }

    fn kinds(ledger: &Ledger) -> Vec<Kind> {
        ledger.close().into_iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn answers_that_come_once_to_what_was_asked_are_no_fault() {
        let ledger = asked(&[1, 2]);
        ledger.hear(Some(2), &json!({ "method": "notifications/message", "params": {} }));
        ledger.hear(Some(2), &answer(2, "here is mark 2."));
        ledger.hear(Some(1), &answer(1, "here is mark 1."));
        ledger.over(1);
        ledger.over(2);
        assert_eq!(ledger.close(), []);
    }

    #[test]
    fn what_has_no_answer_is_lost() {
        let ledger = asked(&[1, 2]);
        ledger.over(1);
        assert_eq!(kinds(&ledger), [Kind::Lost, Kind::Lost]);
        assert_eq!(ledger.close()[0].what, "client 1: request 1 of one has no answer");
    }

    #[test]
    fn a_second_answer_is_doubled_wherever_it_comes() {
        for place in [Some(1), Some(2), None] {
            let ledger = asked(&[1]);
            ledger.hear(Some(1), &answer(1, "mark 1."));
            ledger.hear(place, &answer(1, "mark 1."));
            assert_eq!(kinds(&ledger), [Kind::Doubled], "{place:?}");
        }
    }

    #[test]
    fn an_answer_of_another_call_is_crossed_though_its_id_is_right() {
        let ledger = asked(&[1]);
        ledger.hear(Some(1), &answer(1, "mark 2."));
        assert_eq!(kinds(&ledger), [Kind::Crossed]);
        assert!(ledger.close()[0].what.contains("wants \"mark 1.\""), "{:?}", ledger.close());
    }

    #[test]
    fn an_answer_that_comes_to_another_request_is_crossed() {
        for place in [Some(1), None] {
            let ledger = asked(&[1, 2]);
            ledger.hear(place, &answer(2, "mark 2."));
            ledger.hear(Some(1), &answer(1, "mark 1."));
            assert_eq!(kinds(&ledger), [Kind::Crossed, Kind::Lost], "{place:?}");
        }
    }

    #[test]
    fn an_answer_to_what_nobody_asked_is_crossed() {
        let ledger = asked(&[]);
        ledger.hear(Some(7), &answer(7, "mark 7."));
        assert_eq!(kinds(&ledger), [Kind::Crossed]);
    }

    #[test]
    fn an_error_is_a_failure_unless_it_is_the_tools_own_and_expected() {
        let ledger = asked(&[1, 2]);
        let expected =
            Expected { server: "two".to_owned(), holds: "mark 3.".to_owned(), fails: true };
        ledger.ask(3, expected);
        ledger
            .hear(Some(1), &json!({ "id": 1, "error": { "code": -32603, "message": "mark 1." } }));
        let failed = |id: u64, text: &str| {
            let content = [json!({ "type": "text", "text": text })];
            json!({ "id": id, "result": { "isError": true, "content": content } })
        };
        ledger.hear(Some(2), &failed(2, "mark 2."));
        ledger.hear(Some(3), &failed(3, "no mark 3."));
        ledger.fail(4, "status 500");
        ledger.hear(Some(4), &json!({ "id": 9, "method": "sampling/createMessage" }));
        ledger.hear(Some(4), &json!({ "id": "x", "result": {} }));
        assert_eq!(kinds(&ledger), [Kind::Failed; 5]);
    }
}
