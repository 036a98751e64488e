//! What each modern request says of its client.

use serde_json::value::RawValue;

use super::capabilities::LEVELS;
use super::messages::Refusal;
use super::splice::{Edit, field, fields, quoted, set, string, without};
use crate::envelope::Envelope;
use crate::era::MODERN;
use crate::protocol::{
    CAPABILITIES, CLIENT_INFO, INVALID_PARAMS, LEVEL, UNSUPPORTED_VERSION, VERSION,
};

/// Longest of what is remembered of a client: its name and capabilities together, in bytes.
pub(super) const LONGEST_CLIENT: usize = 64 << 10;

/// As it is read from a modern client.
#[derive(Debug)]
pub(crate) struct Meta<'a> {
    pub(super) info: Option<&'a str>,
    pub(super) capabilities: &'a str,
    pub(super) level: Option<String>,
    /// As it is spelled.
    pub(super) token: Option<&'a str>,
}

impl<'a> Meta<'a> {
    /// As the specification has it: what is missing makes a request malformed, and a version may be another.
    pub(crate) fn read(params: &'a str) -> Result<Self, Refusal> {
        let missing = |name: &str| {
            let why = format!("the request's _meta has no {name}, or one that can't be read");
            Refusal::new(INVALID_PARAMS, why)
        };
        let [meta] = fields(params, ["_meta"]).unwrap_or_default();
        let meta = meta.and_then(|meta| {
            fields(meta.get(), [VERSION, CAPABILITIES, CLIENT_INFO, LEVEL, "progressToken"])
        });
        let [version, capabilities, info, level, token] = meta.ok_or_else(|| missing(VERSION))?;
        let version = version.and_then(string).ok_or_else(|| missing(VERSION))?;
        if version != MODERN {
            return Err(unsupported(&quoted(&version)));
        }
        let capabilities = capabilities.map(RawValue::get).filter(|value| value.starts_with('{'));
        let capabilities = capabilities.ok_or_else(|| missing(CAPABILITIES))?;
        let level = level.map(|level| {
            let known = string(level).filter(|level| LEVELS.contains(&level.as_str()));
            known.ok_or_else(|| unknown_level(level.get()))
        });
        let [info, token] = [info, token].map(|value| value.map(RawValue::get));
        Ok(Self { info, capabilities, level: level.transpose()?, token })
    }
}

/// What has a request say nothing any more that only modern ones do: a server of both eras goes by it, and would take the
/// request for another era's than the handshake has settled.
pub(super) fn unstated(params: &str) -> Option<Edit<'_>> {
    let meta = field(params, "_meta")?;
    let with = without(meta, &[VERSION, CLIENT_INFO, CAPABILITIES, LEVEL])?;
    Some(Edit { part: meta, with })
}

/// `requested` is JSON.
pub(super) fn unsupported(requested: &str) -> Refusal {
    let data = format!(r#"{{"supported":[{}],"requested":{requested}}}"#, quoted(MODERN));
    let message = format!("Unsupported protocol version: this server is spoken to in {MODERN}");
    Refusal { code: UNSUPPORTED_VERSION, message, data: Some(data) }
}

pub(super) fn unknown_level(level: &str) -> Refusal {
    Refusal::new(INVALID_PARAMS, format!("the log level is none of {}: {level}", LEVELS.join(", ")))
}

/// What has a legacy client's request say all that a modern one does. Nothing where its parameters are no object.
pub(super) fn stated<'a>(message: &Envelope<'a>, says: &[(&str, &str)]) -> Option<Vec<Edit<'a>>> {
    let all: Vec<_> =
        says.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    let alone = format!("{{{}}}", all.join(","));
    let Some(params) = message.params else {
        return set(message.text(), &[("params", &format!(r#"{{"_meta":{alone}}}"#))]);
    };
    let [meta] = fields(params.get(), ["_meta"])?;
    match meta {
        Some(meta) => set(meta.get(), says),
        None => set(params.get(), &[("_meta", &alone)]),
    }
}
