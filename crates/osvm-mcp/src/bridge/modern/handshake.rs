//! The handshake that a modern client knows nothing of, and what waits for it.

use super::super::Step;
use super::super::capabilities::Abilities;
use super::super::messages::{self, Refusal};
use super::super::meta::{LONGEST_CLIENT, Meta};
use super::super::splice::{field, fields, quoted};
use super::ModernClient;
use crate::envelope::Envelope;
use crate::era::MODERN;
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS};

/// What waits for the handshake: messages, and their bytes once there is one.
const MOST_WAITING: usize = 256;
const MOST_WAITING_BYTES: usize = 16 << 20;

/// Longest of what a server says of itself, in bytes.
const LONGEST_HELLO: usize = 1 << 20;

pub(super) enum Server {
    Unmet,
    Meeting { hello: String, waiting: Vec<String>, bytes: usize },
    Met(Met),
}

/// What a server has said of itself.
pub(super) struct Met {
    pub(super) abilities: Abilities,
    info: Option<String>,
    instructions: Option<String>,
}

impl ModernClient {
    pub(super) fn meet(&mut self, meta: &Meta<'_>, step: &mut Step) -> Result<(), Refusal> {
        let info = meta.info.unwrap_or(r#"{"name":"unknown","version":"unknown"}"#);
        if info.len() + meta.capabilities.len() > LONGEST_CLIENT {
            let why = format!("the client's name and capabilities exceed {LONGEST_CLIENT} bytes");
            return Err(Refusal::new(INVALID_PARAMS, why));
        }
        let hello = self.ids.next();
        let version = quoted(&self.offered);
        let capabilities = meta.capabilities;
        let params = format!(
            r#"{{"protocolVersion":{version},"capabilities":{capabilities},"clientInfo":{info}}}"#
        );
        step.to_server.push(messages::request(&hello, "initialize", &params));
        self.server = Server::Meeting { hello, waiting: Vec::new(), bytes: 0 };
        Ok(())
    }

    /// Keeps a message until the server has been met.
    pub(super) fn wait(&mut self, text: &str) -> Result<(), Refusal> {
        let Server::Meeting { waiting, bytes, .. } = &mut self.server else { return Ok(()) };
        // One of any size must pass.
        let is_too_much = !waiting.is_empty() && *bytes + text.len() > MOST_WAITING_BYTES;
        if is_too_much || waiting.len() >= MOST_WAITING {
            let why = "too much waits for the server's handshake: ask again once it has answered";
            return Err(Refusal::new(INTERNAL_ERROR, why));
        }
        *bytes += text.len();
        waiting.push(text.to_owned());
        Ok(())
    }

    /// The handshake's answer.
    pub(super) fn met(&mut self, message: &Envelope<'_>, step: &mut Step) {
        let said = message.result.filter(|said| said.get().len() <= LONGEST_HELLO);
        let said = said.and_then(|said| {
            fields(said.get(), ["protocolVersion", "capabilities", "serverInfo", "instructions"])
        });
        let Some([Some(_), capabilities, info, instructions]) = said else {
            let said = message.error.and_then(|error| field(error.get(), "message"));
            return self.fail(
                &format!("the server refused the handshake: {}", said.unwrap_or("no result")),
                step,
            );
        };
        let abilities = Abilities::of(capabilities.map_or("{}", |value| value.get()));
        let [info, instructions] =
            [info, instructions].map(|value| value.map(|value| value.get().to_owned()));
        let met = Server::Met(Met { abilities, info, instructions });
        let Server::Meeting { waiting, .. } = std::mem::replace(&mut self.server, met) else {
            return;
        };
        step.to_server.push(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_vec());
        for text in waiting {
            if let Ok(message) = Envelope::parse(&text) {
                self.client_message(&message, step);
            }
        }
    }

    /// There is no server: what waits for one is answered.
    pub(super) fn fail(&mut self, why: &str, step: &mut Step) {
        let server = std::mem::replace(&mut self.server, Server::Unmet);
        let Server::Meeting { waiting, .. } = server else { return };
        for text in waiting {
            if let Ok(Envelope { id: Some(id), .. }) = Envelope::parse(&text) {
                step.to_client.push(Refusal::new(INTERNAL_ERROR, why).answers(id.get()));
            }
        }
    }

    pub(super) fn discovered(&self) -> String {
        let Server::Met(Met { abilities, info, instructions }) = &self.server else {
            return "{}".to_owned();
        };
        let told = |name: &str, value: &Option<String>| match value {
            Some(value) => format!(r#","{name}":{value}"#),
            None => String::new(),
        };
        let name = r#"{"io.modelcontextprotocol/serverInfo":"#;
        let meta = info.as_ref().map(|info| format!("{name}{info}}}"));
        let [instructions, meta] = [told("instructions", instructions), told("_meta", &meta)];
        let (versions, capabilities) = (quoted(MODERN), &abilities.spelled);
        format!(
            r#"{{"resultType":"complete","supportedVersions":[{versions}],"capabilities":{capabilities}{instructions},"ttlMs":0,"cacheScope":"private"{meta}}}"#
        )
    }
}
