//! Has a client of one era and a server of the other understand each other. A bridge is told each line of either side
//! and says what it becomes; it does no I/O, and knows no time but the one that it is told.
//!
//! ```text
//! modern client ──> _meta of each request ──> ModernClient ──> initialize, setLevel … ──> legacy server
//!               <── input_required        <──              <── questions              <──
//!
//! legacy client ──> initialize, ping …    ──> LegacyClient ──> _meta, listen          ──> modern server
//!               <── questions             <──              <── input_required         <──
//! ```
//!
//! What need not be understood passes byte for byte: fields are spliced into a message's text, and nothing in it is
//! written anew. What can't be bridged is refused with the specification's code, and says why. What is remembered is
//! bounded, whatever either side sends: requests and ids in number and length, texts in bytes.
//!
//! A legacy server's request does not say which call it belongs to; `modern::inputs` tells how that is decided, and why
//! a wrong guess loses nothing.

mod calls;
mod capabilities;
mod legacy;
mod listening;
mod messages;
mod meta;
mod modern;
pub(crate) mod seal;
pub(crate) mod splice;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::envelope::{Envelope, Kind};
use crate::era::Era;
use crate::lines;
use crate::protocol::VERSION;
use legacy::LegacyClient;
pub(crate) use messages::Refusal;
pub(crate) use meta::Meta;
use modern::ModernClient;

/// Requests that a modern server may answer by asking back.
const MAY_ASK: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];

/// What stands between one client and its server.
pub struct Bridge(Sides);

enum Sides {
    Modern(Box<ModernClient>),
    Legacy(Box<LegacyClient>),
}

/// What a bridge needs to know.
pub struct Terms {
    /// The protocol version that the server has agreed on with an earlier client.
    pub server_version: String,
    /// Who the client is, where there are several: what one was given is of no use to another.
    pub binding: Vec<u8>,
    /// Random; by it, and by nothing else, what clients bring back is known to be the bridge's own.
    pub key: [u8; 32],
    /// How long a call of a modern client's may wait for what its server wants to know.
    pub patience: Duration,
}

/// What a line becomes: lines without their ends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Step {
    pub to_client: Vec<Vec<u8>>,
    pub to_server: Vec<Vec<u8>>,
}

impl Step {
    fn and(&mut self, next: Self) {
        self.to_client.extend(next.to_client);
        self.to_server.extend(next.to_server);
    }
}

impl Bridge {
    /// Nothing where both sides are of one era: they need none.
    pub fn between(client: Era, server: Era, terms: Terms, now: Instant) -> Option<Self> {
        Some(Self(match (client, server) {
            (Era::Modern, Era::Legacy) => Sides::Modern(Box::new(ModernClient::new(terms, now))),
            (Era::Legacy, Era::Modern) => Sides::Legacy(Box::new(LegacyClient::new(&terms))),
            (Era::Modern, Era::Modern) | (Era::Legacy, Era::Legacy) => return None,
        }))
    }

    /// What becomes of a line of the client's.
    pub fn of_client(&mut self, line: &[u8], now: Instant) -> Step {
        let mut step = Step::default();
        let heard = messages::each(line, &mut |message| {
            step.and(match &mut self.0 {
                Sides::Modern(client) => client.of_client(message, now),
                Sides::Legacy(client) => client.of_client(message),
            });
        });
        if let Err(refusal) = heard {
            step.to_client.push(refusal.answers_none());
        }
        step
    }

    /// What becomes of a line of the server's. What is no message is nothing that a client could use.
    pub fn of_server(&mut self, line: &[u8], now: Instant) -> Step {
        let mut step = Step::default();
        let _ = messages::each(line, &mut |message| {
            step.and(match &mut self.0 {
                Sides::Modern(client) => client.of_server(message, now),
                Sides::Legacy(client) => client.of_server(message),
            });
        });
        step
    }

    /// The server is gone. What it left open, and nobody has told the bridge to be, is answered. Another server is taken
    /// to have been told what this one was told first.
    pub fn lost(&mut self, why: &str) -> Step {
        match &mut self.0 {
            Sides::Modern(client) => client.lost(why),
            Sides::Legacy(client) => client.lost(why),
        }
    }

    /// Whether requests of the client's wait for a handshake that is the bridge's own.
    pub fn is_meeting(&self) -> bool {
        matches!(&self.0, Sides::Modern(client) if client.is_meeting())
    }

    /// Whether the client waits to be told of what the server notifies of.
    pub fn is_listening(&self) -> bool {
        matches!(&self.0, Sides::Modern(client) if client.is_listening())
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn expires(&self) -> Option<Instant> {
        match &self.0 {
            Sides::Modern(client) => client.expires(),
            Sides::Legacy(_) => None,
        }
    }

    /// Gives up what nobody has come back for.
    pub fn expire(&mut self, now: Instant) -> Step {
        match &mut self.0 {
            Sides::Modern(client) => client.expire(now),
            Sides::Legacy(_) => Step::default(),
        }
    }
}

impl Era {
    /// The era of a client that begins with this line; nothing where the line does not tell.
    pub fn of_first(line: &[u8]) -> Option<Self> {
        let text = lines::text(line);
        let message =
            Envelope::parse(&text).ok().filter(|message| message.kind() == Kind::Request)?;
        let meta = message.params.and_then(|params| splice::field(params.get(), "_meta"));
        let version = meta.and_then(|meta| splice::field(meta, VERSION));
        match message.method.as_deref() {
            Some("initialize") => Some(Self::Legacy),
            Some("server/discover") => Some(Self::Modern),
            _ => version.map(|_| Self::Modern),
        }
    }
}

/// Ids of the bridge's own requests, which nobody else can come upon by accident or guess.
struct Ids {
    word: String,
    next: u64,
}

impl Ids {
    fn new(word: &str) -> Self {
        Self { word: word.to_owned(), next: 0 }
    }

    /// As JSON.
    fn next(&mut self) -> String {
        self.next += 1;
        format!("\"osvm-{}-{}\"", self.word, self.next)
    }
}
