//! What a server is asked before it is asked to do anything.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::envelope::{Envelope, field, fields};
use crate::protocol::{CAPABILITIES, CLIENT_INFO, VERSION};

/// Longest of what is looked at of a client, in bytes; of one that says more, nothing is kept.
const LONGEST_CLIENT: usize = 64 << 10;

pub(super) const INITIALIZE: &str = "initialize";
const DISCOVER: &str = "server/discover";

/// Questions that a client begins with.
pub(super) const GREETINGS: [&str; 2] = [INITIALIZE, DISCOVER];

/// Lists, the capability of a server that has one, and what tells that a list is another now.
const LISTS: [(&str, &str, &str); 3] = [
    ("tools/list", "tools", "notifications/tools/list_changed"),
    ("prompts/list", "prompts", "notifications/prompts/list_changed"),
    ("resources/templates/list", "resources", "notifications/resources/list_changed"),
];

/// One that has the same answer whenever that client asks it of a server that has done nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    /// Of all that a server may tell clients apart by: revision, capabilities, and what the client says it is.
    pub(super) client: String,
    pub(super) method: &'static str,
}

impl Question {
    /// The one that a message asks, of a client that has begun with that handshake.
    pub(super) fn of(message: &Envelope<'_>, handshake: Option<&str>) -> Option<Self> {
        let asked = message.method.as_deref()?;
        let known = GREETINGS.into_iter().chain(LISTS.map(|(method, ..)| method));
        let method = known.into_iter().find(|method| *method == asked)?;
        let client = match method {
            INITIALIZE => kind(message.params?, ["protocolVersion", "capabilities", "clientInfo"]),
            // Who asks for anything more, as for the rest of a list, may be told something else.
            _ if !is_plain(message.params) => None,
            _ => modern(message.params).or_else(|| handshake.map(str::to_owned)),
        };
        Some(Self { client: client?, method })
    }

    /// The same client's.
    pub(super) fn sibling(&self, method: &'static str) -> Self {
        Self { client: self.client.clone(), method }
    }

    /// The capability of servers that have such a list.
    pub(super) fn capability(&self) -> Option<&'static str> {
        LISTS.into_iter().find(|(method, ..)| *method == self.method).map(|(_, name, _)| name)
    }

    /// What tells a client that it should ask again.
    pub(super) fn changed(&self) -> Option<&'static str> {
        LISTS.into_iter().find(|(method, ..)| *method == self.method).map(|(.., note)| note)
    }

    /// The list that is another once a server has sent this notification.
    pub(super) fn told_by(note: &str) -> Option<&'static str> {
        LISTS.into_iter().find(|(.., known)| *known == note).map(|(method, ..)| method)
    }
}

/// Whether a request says nothing but whose it is.
fn is_plain(params: Option<&RawValue>) -> bool {
    let Some(params) = params else { return true };
    let says = serde_json::from_str::<HashMap<&str, &RawValue>>(params.get());
    says.is_ok_and(|says| says.keys().all(|name| *name == "_meta"))
}

/// The kind of a client of the modern era, which each of its requests tells.
fn modern(params: Option<&RawValue>) -> Option<String> {
    kind(field(params, "_meta")?, [VERSION, CAPABILITIES, CLIENT_INFO])
}

/// What a client says of itself, wherever it does, spelled one way.
fn kind(says: &RawValue, names: [&str; 3]) -> Option<String> {
    let [version, capabilities, info] = fields(says.get(), names).ok()?;
    let version: String = serde_json::from_str(version?.get()).ok()?;
    let [capabilities, info] = [plainly(capabilities)?, plainly(info)?];
    let digest = Sha256::digest(format!("{version} {capabilities} {info}"));
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn plainly(said: Option<&RawValue>) -> Option<Value> {
    let said = said.map_or("{}", RawValue::get);
    let mut value: Value =
        (said.len() <= LONGEST_CLIENT).then(|| serde_json::from_str(said).ok())??;
    value.sort_all_objects();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, handshake: Option<&str>) -> Option<Question> {
        Question::of(&Envelope::parse(text).unwrap(), handshake)
    }

    fn initialize(params: &str) -> String {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":PARAMS}"#;
        of(&text.replace("PARAMS", params), None).unwrap().client
    }

    #[test]
    fn clients_are_told_apart_by_all_they_say_of_themselves_however_they_spell_it() {
        let one = initialize(r#"{"protocolVersion":"2025-06-18","capabilities":{"a":{},"b":{}}}"#);
        let same = r#"{"clientInfo":{ },"capabilities":{ "b":{},"\u0061":{}},"protocolVersion":"2025-06-18"}"#;
        assert_eq!(initialize(same), one);
        for other in [
            r#"{"protocolVersion":"2025-11-25","capabilities":{"a":{},"b":{}}}"#,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"a":{"c":true},"b":{}}}"#,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"a":{},"b":{}},"clientInfo":{"name":"c"}}"#,
        ] {
            assert_ne!(initialize(other), one);
        }
    }

    #[test]
    fn a_question_that_says_more_than_whose_it_is_is_none() {
        let list = |params: &str| {
            let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":PARAMS}"#;
            of(&text.replace("PARAMS", params), Some("c")).is_some()
        };
        assert!(list("{}") && list(r#"{"_meta":{"progressToken":1}}"#));
        assert!(!list(r#"{"cursor":"x"}"#) && !list(r#"{"filter":"x"}"#) && !list("[]"));
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#;
        assert_eq!(of(call, Some("c")), None);
    }

    #[test]
    fn a_client_of_the_modern_era_says_with_each_question_who_it_is() {
        let list = |capabilities: &str| {
            let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":CAPABILITIES}}}"#;
            of(&text.replace("CAPABILITIES", capabilities), Some("handshake")).unwrap().client
        };
        assert_eq!(list("{}"), list("{ }"));
        assert_ne!(list("{}"), list(r#"{"sampling":{}}"#));
        assert_ne!(list("{}"), "handshake");
        let bare = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(of(bare, Some("handshake")).unwrap().client, "handshake");
        assert_eq!(of(bare, None), None);
    }
}
