//! One client's conversation with a server that may be lost and started anew: what of it is open, and how a new server
//! is brought to where the old one was. No I/O; the lines themselves go by as they are.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use crate::envelope::{self, Envelope, Kind, each_element, field};
use crate::lines;
use crate::protocol::INTERNAL_ERROR;
use crate::received::printable;

/// Requests of one direction that are remembered at once. What goes beyond gets no answer from osvm.
const MOST_OPEN: usize = 4096;
/// Longest id that is remembered, in bytes.
const LONGEST_ID: usize = 1 << 10;
/// Longest handshake that is remembered, in bytes; a client with a longer one has to begin again by itself.
const LONGEST_HELLO: usize = 1 << 20;
/// Characters of a revision that are remembered.
const LONGEST_REVISION: usize = 64;

/// What was said and not yet answered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Ids of the client's requests.
    open: BTreeSet<String>,
    /// Ids of the server's.
    asked: BTreeSet<String>,
    /// Ids of requests by servers that are gone: the client may answer them yet.
    outlived: BTreeSet<String>,
    hello: Option<Hello>,
    /// Id of a handshake that the client has not asked for, whose answer is not for it.
    replayed: Option<String>,
    /// Whether the client has subscribed to anything, of which it waits to be told.
    subscribed: bool,
    /// Why what the last of these was answered is not what the client goes by.
    misfit: Option<String>,
}

/// How the client of the legacy era has begun.
#[derive(Debug)]
struct Hello {
    id: String,
    initialize: Vec<u8>,
    /// The revision of the answer, as it was spelled, whether a server has given it or a manifest: empty where it names
    /// none.
    agreed: Option<String>,
    /// Once the client has said that it is ready.
    initialized: Option<Vec<u8>>,
}

/// What becomes of a line of the client's: of a batch, the most that becomes of anything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is for nobody: its other end is gone.
    Dropped,
    /// It goes on as it is.
    Passes,
    /// It goes on, and wants a server to be there.
    Asks,
}

impl Ledger {
    /// Notes a line of the client's.
    pub fn of_client(&mut self, line: &[u8]) -> Fate {
        let mut fate = None;
        messages(line, &mut |message| {
            fate = fate.max(Some(self.client_message(message)));
        });
        fate.unwrap_or(Fate::Passes)
    }

    fn client_message(&mut self, message: &Envelope<'_>) -> Fate {
        let id = message.id.map(|id| id.get().to_owned());
        match (message.kind(), id) {
            (Kind::Request, Some(id)) => {
                let said = message.text().as_bytes();
                if message.method.as_deref() == Some("initialize") && said.len() <= LONGEST_HELLO {
                    let initialize = said.to_vec();
                    let id = id.clone();
                    let hello = Hello { id, initialize, agreed: None, initialized: None };
                    self.hello = Some(hello);
                }
                self.subscribed |= message.method.as_deref() == Some("resources/subscribe");
                note(&mut self.open, id);
                Fate::Asks
            }
            (Kind::Response, Some(id)) => {
                self.asked.remove(&id);
                if self.outlived.remove(&id) { Fate::Dropped } else { Fate::Passes }
            }
            _ => {
                self.client_notification(message);
                Fate::Passes
            }
        }
    }

    fn client_notification(&mut self, message: &Envelope<'_>) {
        match message.method.as_deref() {
            Some("notifications/initialized") => {
                if let Some(hello) = &mut self.hello {
                    let said = message.text().as_bytes();
                    hello.initialized = (said.len() <= LONGEST_HELLO).then(|| said.to_vec());
                }
            }
            // Nobody waits for its answer any more.
            Some("notifications/cancelled") => {
                if let Some(id) = cancelled(message.params) {
                    self.open.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// Notes a line of the server's. Whether it goes on: what answers the handshake that [`replay`](Self::replay) has
    /// begun is not for the client.
    pub fn of_server(&mut self, line: &[u8]) -> bool {
        let mut passes = true;
        messages(line, &mut |message| {
            let Some(id) = message.id.map(|id| id.get().to_owned()) else { return };
            match message.kind() {
                Kind::Request => {
                    self.outlived.remove(&id);
                    note(&mut self.asked, id);
                }
                Kind::Response if self.replayed.as_ref() == Some(&id) => {
                    self.replayed = None;
                    self.misfit = self.hello.as_ref().and_then(|hello| hello.misfit(message));
                    passes = false;
                }
                _ => {
                    self.open.remove(&id);
                    let hello = self.hello.as_mut().filter(|hello| hello.id == id);
                    if let Some((hello, result)) = hello.zip(message.result) {
                        hello.agreed = Some(revision(result));
                    }
                }
            }
        });
        passes
    }

    /// Whether every request of either was answered, and nobody waits to be told of anything else.
    pub fn is_still(&self) -> bool {
        let all_answered = self.open.is_empty() && self.asked.is_empty() && self.replayed.is_none();
        all_answered && !self.subscribed
    }

    /// The server is gone: an answer to each request that it leaves open, as lines to write.
    pub fn lost(&mut self, why: &str) -> Vec<u8> {
        for id in std::mem::take(&mut self.asked) {
            note(&mut self.outlived, id);
        }
        self.replayed = None;
        let answers = std::mem::take(&mut self.open).into_iter().map(|id| {
            let id = RawValue::from_string(id).expect("it was a message's id");
            envelope::error(&id, INTERNAL_ERROR, why)
        });
        answers.flatten().collect()
    }

    /// What a new server is told before anything else, after which its answer is to be waited for. Nothing where the
    /// client has not begun with a handshake, or its handshake was never answered.
    pub fn replay(&mut self) -> Option<Vec<u8>> {
        let hello = self.hello.as_ref().filter(|hello| hello.is_finished())?;
        (self.replayed, self.misfit) = (Some(hello.id.clone()), None);
        Some(hello.initialize.clone())
    }

    /// What it is told once it has answered; or why it can't take the place of the one that the client knows.
    pub fn initialized(&self) -> Result<Option<&[u8]>, &str> {
        match &self.misfit {
            Some(why) => Err(why),
            None => Ok(self.hello.as_ref().and_then(|hello| hello.initialized.as_deref())),
        }
    }
}

impl Hello {
    /// Whether a server has agreed to it. Where that can't be seen, the client says so by what it says next.
    fn is_finished(&self) -> bool {
        self.agreed.is_some() || self.initialized.is_some()
    }

    /// Why another server's answer is none for whoever was answered already.
    fn misfit(&self, answer: &Envelope<'_>) -> Option<String> {
        let agreed = self.agreed.as_ref()?;
        let Some(result) = answer.result else {
            return Some("it refuses the handshake that was agreed to".to_owned());
        };
        let now = revision(result);
        (now != *agreed).then(|| {
            let [now, agreed] = [printable(&now), printable(agreed)];
            format!("it speaks revision {now} now, where {agreed} was agreed on")
        })
    }
}

/// What a handshake's answer says of it, as it is spelled.
fn revision(result: &RawValue) -> String {
    let said = field(Some(result), "protocolVersion").map_or("", RawValue::get);
    said.chars().take(LONGEST_REVISION).collect()
}

fn note(ids: &mut BTreeSet<String>, id: String) {
    if ids.len() < MOST_OPEN && id.len() <= LONGEST_ID {
        ids.insert(id);
    }
}

/// The message of a line, or those of a batch. What is none is nobody's.
fn messages(line: &[u8], visit: &mut dyn FnMut(&Envelope<'_>)) {
    let text = lines::text(line);
    let mut visit = |text| {
        if let Ok(message) = Envelope::parse(text) {
            visit(&message);
        }
    };
    match text.starts_with('[') {
        false => visit(&text),
        true => {
            let _ = each_element(&text, &mut |element| {
                visit(element.get());
                true
            });
        }
    }
}

fn cancelled(params: Option<&RawValue>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Cancelled<'a> {
        #[serde(rename = "requestId", borrow)]
        id: &'a RawValue,
    }
    let cancelled: Cancelled<'_> = serde_json::from_str(params?.get()).ok()?;
    Some(cancelled.id.get().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    const READY: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

    fn request(id: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#).into_bytes()
    }

    fn response(id: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into_bytes()
    }

    fn begun() -> Ledger {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.of_client(HELLO), Fate::Asks);
        assert!(ledger.of_server(&response("0")));
        assert_eq!(ledger.of_client(READY), Fate::Passes);
        ledger
    }

    #[test]
    fn a_lost_server_answers_what_is_open_and_nothing_else() {
        let mut ledger = begun();
        for id in ["1", "\"two\"", "3", "4"] {
            ledger.of_client(&request(id));
        }
        ledger.of_server(&response("1"));
        ledger.of_client(cancel("3").as_bytes());
        let said = String::from_utf8(ledger.lost("its VM has ended")).unwrap();
        let ids: Vec<_> = said
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .inspect(|line| assert_eq!(line["error"]["message"], "its VM has ended"))
            .map(|line| line["id"].to_string())
            .collect();
        assert_eq!(ids, ["\"two\"", "4"]);
        assert!(ledger.lost("again").is_empty());
    }

    #[test]
    fn a_new_server_hears_the_handshake_and_the_client_does_not_hear_its_answer() {
        let mut ledger = begun();
        ledger.lost("gone");
        assert_eq!(ledger.replay().as_deref(), Some(HELLO));
        assert!(!ledger.of_server(&response("0")));
        assert_eq!(ledger.initialized(), Ok(Some(READY)));
        // The client may use that id again.
        assert!(ledger.of_server(&response("0")));
    }

    #[test]
    fn a_server_that_agrees_to_something_else_takes_nobodys_place() {
        let answer = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":0,{result}}}"#).into_bytes();
        let agreed =
            |version: &str| answer(&format!(r#""result":{{"protocolVersion":"{version}"}}"#));
        let mut ledger = Ledger::default();
        ledger.of_client(HELLO);
        ledger.of_server(&agreed("2025-06-18"));
        let mut replayed = |answer: Vec<u8>| {
            ledger.replay().unwrap();
            assert!(!ledger.of_server(&answer));
            ledger.initialized().map(|_| ()).map_err(str::to_owned)
        };
        assert_eq!(replayed(agreed("2025-06-18")), Ok(()));
        let other = replayed(agreed("2024-11-05\\u001b")).unwrap_err();
        let expected =
            r#"it speaks revision "2024-11-05\u001b" now, where "2025-06-18" was agreed on"#;
        assert_eq!(other, expected);
        assert!(replayed(answer(r#""error":{"code":-32602,"message":"m"}"#)).is_err());
        assert_eq!(replayed(agreed("2025-06-18")), Ok(()));
    }

    #[test]
    fn nothing_is_replayed_of_a_client_without_a_finished_handshake() {
        let mut modern = Ledger::default();
        modern.of_client(&request("1"));
        assert_eq!(modern.replay(), None);
        let mut early = Ledger::default();
        early.of_client(HELLO);
        early.lost("gone");
        assert_eq!(early.replay(), None);
        early.of_client(HELLO);
        early.of_server(&response("0"));
        assert_eq!(early.replay().as_deref(), Some(HELLO));
    }

    #[test]
    fn answers_to_a_server_that_is_gone_are_for_nobody() {
        let mut ledger = begun();
        ledger.of_server(&request("\"ask\""));
        ledger.lost("gone");
        assert_eq!(ledger.of_client(&response("\"ask\"")), Fate::Dropped);
        ledger.of_server(&request("\"ask\""));
        ledger.lost("gone, too");
        ledger.of_server(&request("\"ask\""));
        assert_eq!(ledger.of_client(&response("\"ask\"")), Fate::Passes);
        // Whether there was such a question is the server's to judge.
        assert_eq!(ledger.of_client(&response("\"other\"")), Fate::Passes);
    }

    #[test]
    fn batches_count_by_their_messages_and_text_by_nothing() {
        let mut ledger = begun();
        let batch = [b"[".to_vec(), request("5"), b",".to_vec(), request("6"), b"]".to_vec()];
        assert_eq!(ledger.of_client(&batch.concat()), Fate::Asks);
        assert!(ledger.of_server(b"Server is listening"));
        assert_eq!(ledger.lost("gone").iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Ask,
        Answer(usize),
        Cancel(usize),
        Lose,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Ask),
            2 => (0..9_usize).prop_map(Event::Answer),
            1 => (0..9_usize).prop_map(Event::Cancel),
            1 => Just(Event::Lose),
        ]
    }

    proptest! {
        /// By the server or by osvm; those that were cancelled by neither.
        #[test]
        fn every_request_is_answered_once(events in prop::collection::vec(event(), 0..80)) {
            let (mut ledger, mut open, mut next) = (Ledger::default(), Vec::new(), 0);
            for event in events {
                match event {
                    Event::Ask => {
                        prop_assert_eq!(ledger.of_client(&request(&next.to_string())), Fate::Asks);
                        open.push(next);
                        next += 1;
                    }
                    Event::Answer(at) if at < open.len() => {
                        let id = open.remove(at).to_string();
                        prop_assert!(ledger.of_server(&response(&id)));
                    }
                    Event::Cancel(at) if at < open.len() => {
                        ledger.of_client(cancel(&open.remove(at).to_string()).as_bytes());
                    }
                    Event::Lose => {
                        prop_assert_eq!(answered(&ledger.lost("gone")), std::mem::take(&mut open));
                    }
                    Event::Answer(_) | Event::Cancel(_) => {}
                }
            }
            prop_assert_eq!(answered(&ledger.lost("gone")), open);
        }
    }

    fn cancel(id: &str) -> String {
        let params = format!(r#"{{"requestId":{id}}}"#);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#)
    }

    /// Ids, sorted as numbers.
    fn answered(lines: &[u8]) -> Vec<u64> {
        let lines = std::str::from_utf8(lines).unwrap().lines();
        let answers = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut ids: Vec<_> = answers.map(|answer| answer["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn of_a_batch_the_handshake_alone_is_repeated() {
        let mut ledger = Ledger::default();
        let batch = |message: &[u8]| [b"[", message, b",", &request("7"), b"]"].concat();
        ledger.of_client(&batch(HELLO));
        ledger.of_client(&batch(READY));
        ledger.of_server(&response("0"));
        ledger.of_server(&response("7"));
        ledger.lost("gone");
        assert_eq!(ledger.replay().as_deref(), Some(HELLO));
        assert_eq!(ledger.initialized(), Ok(Some(READY)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ledger = Ledger::default();
        (0..2 * MOST_OPEN)
            .for_each(|id| assert_eq!(ledger.of_client(&request(&id.to_string())), Fate::Asks));
        assert_eq!(ledger.open.len(), MOST_OPEN);
        let (asks, long_id) = (0..2 * MOST_OPEN, format!("\"{}\"", "x".repeat(LONGEST_ID)));
        asks.for_each(|id| {
            ledger.of_server(&request(&(id + 9_000_000).to_string()));
        });
        ledger.lost("gone");
        ledger.of_server(&request(&long_id));
        assert_eq!((ledger.asked.len(), ledger.outlived.len()), (0, MOST_OPEN));
        let params = format!("{{\"x\":\"{}\"}}", "x".repeat(LONGEST_HELLO));
        let long = String::from_utf8_lossy(HELLO).replace("{}", &params).into_bytes();
        ledger.of_client(&long);
        ledger.of_client(READY);
        assert_eq!(ledger.replay(), None);
    }
}
