//! What a server says of itself before anything is done with it: kept, so that it can be said again without the server.
//!
//! - `question`: what can be answered so, and for which clients the answer is the same.
//! - `discovery`: one conversation, in which such answers are given, learnt and compared.

mod discovery;
mod question;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::discovery::{Discovery, Heard};
use self::question::Question;
use crate::client::ServerInfo;
use crate::envelope;
use crate::era::Era;

/// Clients that one server's manifest knows. Of more of them, the one that was met first is forgotten.
const MOST_CLIENTS: usize = 16;
/// Longest answer that is kept, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;
/// Most bytes of all of them together: a stranger's server fills no disk.
const MOST_BYTES: usize = 2 << 20;
/// Longest name of a revision, in bytes.
const LONGEST_VERSION: usize = 64;

/// What one server has said, with one image, command and environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// As what it was met by clients of each era.
    introductions: HashMap<Era, Introduction>,
    /// The last one met last.
    clients: Vec<Known>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    pub era: Era,
    /// The revision agreed on.
    pub protocol_version: String,
}

/// What it has said to clients that it can't tell apart.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    client: String,
    /// By methods.
    said: BTreeMap<String, Said>,
}

/// An answer, as it was spelled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Result(Box<RawValue>),
    /// It has no such method.
    Error(Box<RawValue>),
}

/// Something that a [`Manifest`] is to be changed by.
#[derive(Debug, Clone)]
pub struct News(Change);

#[derive(Debug, Clone)]
enum Change {
    Introduced(Era, Introduction),
    /// Of `None`, what it said is right no more.
    Learnt(Question, Option<Said>),
    /// It is another server than it was.
    Estranged,
}

impl Manifest {
    /// One that can't be read is empty: all of it can be learnt anew.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("its keys are texts")
    }

    pub fn is_empty(&self) -> bool {
        self.introductions.is_empty() && self.clients.is_empty()
    }

    pub fn add(&mut self, news: News) {
        match news.0 {
            Change::Introduced(era, server) => drop(self.introductions.insert(era, server)),
            Change::Learnt(question, said) => self.learn(&question, said),
            Change::Estranged => *self = Self::default(),
        }
    }

    fn learn(&mut self, question: &Question, said: Option<Said>) {
        for known in self.clients.iter_mut().filter(|known| known.client == question.client) {
            known.said.remove(question.method);
        }
        let Some(said) = said.filter(|said| self.has_room(said.text().len())) else { return };
        let known = match self.clients.iter().position(|known| known.client == question.client) {
            Some(place) => &mut self.clients[place],
            None => {
                if self.clients.len() >= MOST_CLIENTS {
                    self.clients.remove(0);
                }
                let client = question.client.clone();
                self.clients.push(Known { client, said: BTreeMap::new() });
                self.clients.last_mut().expect("one was pushed")
            }
        };
        known.said.insert(question.method.to_owned(), said);
    }

    fn has_room(&self, bytes: usize) -> bool {
        let kept = self.clients.iter().flat_map(|known| known.said.values());
        let kept: usize = kept.map(|said| said.text().len()).sum();
        bytes <= LONGEST_ANSWER && kept + bytes <= MOST_BYTES
    }

    fn said(&self, question: &Question) -> Option<&Said> {
        let known = self.clients.iter().find(|known| known.client == question.client)?;
        known.said.get(question.method)
    }
}

impl Introduction {
    /// Nothing of one whose revision is too long for one.
    pub fn of(server: &ServerInfo) -> Option<Self> {
        let version = &server.protocol_version;
        let protocol_version = (version.len() <= LONGEST_VERSION).then(|| version.clone())?;
        Some(Self { era: server.era, protocol_version })
    }
}

impl Said {
    fn text(&self) -> &str {
        let (Self::Result(said) | Self::Error(said)) = self;
        said.get()
    }

    /// An answer that was good for some time is told as good for now.
    fn answers(&self, id: &RawValue) -> Vec<u8> {
        let (name, said) = match self {
            Self::Result(said) => ("result", said),
            Self::Error(said) => ("error", said),
        };
        let lasts = envelope::field(Some(said), "ttlMs").map(|lasts| (lasts.get(), "0"));
        let said = envelope::with(said.get(), lasts.into_iter());
        format!(r#"{{"jsonrpc":"2.0","id":{id},"{name}":{said}}}"#).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(client: &str, method: &'static str) -> Question {
        Question { client: client.to_owned(), method }
    }

    fn learnt(question: Question, result: &str) -> News {
        let said = Said::Result(RawValue::from_string(result.to_owned()).unwrap());
        News(Change::Learnt(question, Some(said)))
    }

    #[test]
    fn what_was_learnt_is_read_back_as_it_was_spelled_and_good_for_now() {
        let mut manifest = Manifest::default();
        let said = r#"{ "tools":[1.0e2 ], "ttlMs": 60000,"x":{"ttlMs":7} }"#;
        manifest.add(learnt(question("a", "tools/list"), said));
        let manifest = Manifest::parse(&manifest.to_text());
        let told = manifest.said(&question("a", "tools/list")).unwrap();
        let id = RawValue::from_string("1.0".to_owned()).unwrap();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":1.0,"result":{said}}}"#);
        assert_eq!(told.answers(&id), answer.replace("60000", "0").as_bytes());
        assert!(manifest.said(&question("b", "tools/list")).is_none());
        assert!(manifest.said(&question("a", "prompts/list")).is_none());
        assert!(Manifest::parse("{").is_empty());
    }

    #[test]
    fn a_server_that_says_much_is_remembered_within_bounds() {
        let mut manifest = Manifest::default();
        let list = |client: usize| question(&client.to_string(), "tools/list");
        (0..=MOST_CLIENTS).for_each(|client| manifest.add(learnt(list(client), "{}")));
        assert!(manifest.said(&list(0)).is_none() && manifest.said(&list(1)).is_some());
        let text = |length: usize| format!(r#""{}""#, "x".repeat(length));
        manifest.add(learnt(list(2), &text(LONGEST_ANSWER)));
        assert!(manifest.said(&list(2)).is_none(), "what it said before is right no more");
        (1..=3).for_each(|client| manifest.add(learnt(list(client), &text(LONGEST_ANSWER - 9))));
        assert!(manifest.said(&list(1)).is_some() && manifest.said(&list(3)).is_none());
        // What is there can be replaced.
        manifest.add(learnt(list(1), &text(LONGEST_ANSWER - 8)));
        assert!(manifest.said(&list(1)).is_some());
        manifest.add(News(Change::Estranged));
        assert!(manifest.is_empty());
    }
}
