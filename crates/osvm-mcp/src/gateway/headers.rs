//! What a request's headers must say, and say of its body.

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::access::one;
use super::refusal::Refusal;
use crate::envelope::{Envelope, fields};
use crate::era::{LEGACY, MODERN};
use crate::protocol::{self, HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_VERSION};

pub(super) const SESSION: &str = "mcp-session-id";
pub(super) const VERSION: &str = "mcp-protocol-version";
pub(super) const LAST_EVENT: &str = "last-event-id";

/// What pages may send.
pub(super) const OF_CLIENTS: &str = "authorization, content-type, last-event-id, mcp-session-id, \
                                     mcp-protocol-version, mcp-method, mcp-name";

/// What they may read of answers.
pub(super) const OF_ANSWERS: &str = "mcp-session-id, retry-after, www-authenticate";

const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";

/// A message goes to the gateway as JSON, and the answer may be a stream.
pub(super) fn of_message(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = one(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !essence(kind).eq_ignore_ascii_case(JSON) {
        let why = format!("content type {kind:?} is not {JSON}");
        return Err(Refusal::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    if !accepts(headers, JSON) || !accepts(headers, EVENTS) {
        let why = format!("the client must accept both {JSON} and {EVENTS}");
        return Err(Refusal::http(StatusCode::NOT_ACCEPTABLE, why));
    }
    Ok(())
}

pub(super) fn of_stream(headers: &HeaderMap) -> Result<(), Refusal> {
    match accepts(headers, EVENTS) {
        true => Ok(()),
        false => {
            let why = format!("the client must accept {EVENTS}");
            Err(Refusal::http(StatusCode::NOT_ACCEPTABLE, why))
        }
    }
}

fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let family = kind.split_once('/').map_or("", |(family, _)| family);
    values.flat_map(|value| value.split(',')).map(essence).any(|accepted| {
        accepted.eq_ignore_ascii_case(kind)
            || accepted == "*/*"
            || accepted.strip_suffix("/*").is_some_and(|any| any.eq_ignore_ascii_case(family))
    })
}

fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

/// The version of a session's later requests: one with a handshake, where it is said.
pub(super) fn of_session(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.contains_key(VERSION).then(|| one(headers, VERSION)) {
        None => Ok(()),
        Some(Some(version)) if LEGACY.contains(&version) => Ok(()),
        Some(version) => {
            let why = format!("version {:?} has no sessions", version.unwrap_or_default());
            Err(Refusal::http(StatusCode::BAD_REQUEST, why))
        }
    }
}

/// Whether a request says of itself what earlier revisions say once.
pub(super) fn is_modern(headers: &HeaderMap, meta: &Result<Meta<'_>, serde_json::Error>) -> bool {
    one(headers, VERSION).is_some_and(|version| !LEGACY.contains(&version))
        || meta.as_ref().is_ok_and(|meta| meta.version.is_some())
}

/// What a modern request says of itself.
#[derive(Default)]
pub(super) struct Meta<'a> {
    version: Option<&'a RawValue>,
    pub(super) capabilities: Option<&'a RawValue>,
}

impl<'a> Meta<'a> {
    pub(super) fn of(message: &Envelope<'a>) -> Result<Self, serde_json::Error> {
        let Some(params) = message.params else { return Ok(Self::default()) };
        let [Some(meta)] = fields(params.get(), ["_meta"])? else { return Ok(Self::default()) };
        let [version, capabilities] =
            fields(meta.get(), [protocol::VERSION, protocol::CAPABILITIES])?;
        Ok(Self { version, capabilities })
    }

    fn version(&self) -> Option<String> {
        serde_json::from_str(self.version?.get()).ok()
    }

    /// What a request must say, and does not.
    fn missing(&self) -> Option<&'static str> {
        match (self.version(), self.capabilities) {
            (None, _) => Some(protocol::VERSION),
            (_, Some(object)) if object.get().starts_with('{') => None,
            _ => Some(protocol::CAPABILITIES),
        }
    }
}

/// Headers tell those on the way what the body says, so they must agree.
pub(super) fn of_modern<'a>(
    headers: &HeaderMap,
    meta: Result<Meta<'a>, serde_json::Error>,
    message: &Envelope<'a>,
) -> Result<Meta<'a>, Refusal> {
    let refuse = |code, why: String| Err(Refusal::rpc(message.id, code, why));
    let mismatch = |why: String| refuse(HEADER_MISMATCH, why);
    let method = message.method.as_deref().unwrap_or_default();
    let Some(header) = one(headers, VERSION) else {
        return mismatch(format!("header {VERSION} is missing, or there are several"));
    };
    let meta = match meta {
        Ok(meta) => meta,
        Err(error) => return refuse(INVALID_PARAMS, format!("params: {error}")),
    };
    if let Some(version) = meta.version()
        && version != header
    {
        return mismatch(format!("header {VERSION} says {header:?}, the message {version:?}"));
    }
    // Notifications need not say so much.
    if message.id.is_some()
        && let Some(missing) = meta.missing()
    {
        return refuse(INVALID_PARAMS, format!("_meta lacks {missing}, or it is malformed"));
    }
    if header != MODERN {
        let why = format!("version {header:?} is not supported");
        let data = serde_json::json!({ "supported": [MODERN], "requested": header });
        return Err(Refusal::rpc(message.id, UNSUPPORTED_VERSION, why).with(&data));
    }
    match one(headers, "mcp-method") {
        Some(said) if said == method => {}
        said => {
            return mismatch(format!("header mcp-method says {said:?}, the message {method:?}"));
        }
    }
    let Some(key) = named_by(method) else { return Ok(meta) };
    let name = match message.params.map(|params| fields(params.get(), [key])).transpose() {
        Ok(name) => name.and_then(|[name]| serde_json::from_str::<String>(name?.get()).ok()),
        Err(error) => return refuse(INVALID_PARAMS, format!("params: {error}")),
    };
    let said = one(headers, "mcp-name").and_then(decoded);
    match name == said {
        true => Ok(meta),
        false => mismatch(format!("header mcp-name says {said:?}, the message {name:?}")),
    }
}

/// Which parameter names what a request is about.
fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// A value that no header can hold is written as `=?base64?...?=`.
pub(super) fn decoded(value: &str) -> Option<String> {
    let Some(coded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(value.to_owned());
    };
    String::from_utf8(STANDARD.decode(coded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&'static str, &str)], message: &str) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let message = Envelope::parse(message).unwrap();
        of_modern(&headers, Meta::of(&message), &message).map(drop)
    }

    fn code(result: Result<(), Refusal>) -> i64 {
        result.map_or_else(|refusal| refusal.code(), |()| 0)
    }

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"é","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

    #[test]
    fn headers_must_agree_with_the_message() {
        let right =
            [(VERSION, MODERN), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?w6k=?=")];
        assert_eq!(code(check(&right, CALL)), 0);
        for wrong in [
            &right[1..],
            &right[..2],
            &[right[0], right[2]],
            &[right[0], ("mcp-method", "tools/list"), right[2]],
            &[right[0], right[1], ("mcp-name", "e")],
            &[right[0], right[0], right[1], right[2]],
            &[("mcp-protocol-version", "2099-01-01"), right[1], right[2]],
        ] {
            assert_eq!(code(check(wrong, CALL)), HEADER_MISMATCH, "{wrong:?}");
        }
    }

    #[test]
    fn a_version_that_is_not_known_is_told_which_are() {
        let call = CALL.replace(MODERN, "2099-01-01");
        let headers = [(VERSION, "2099-01-01"), ("mcp-method", "tools/call"), ("mcp-name", "e")];
        assert_eq!(code(check(&headers, &call)), UNSUPPORTED_VERSION);
    }

    #[test]
    fn accepted_kinds_may_be_families() {
        let accepts_both = |accept: &str| {
            let headers = [("content-type", "application/json; charset=utf-8"), ("accept", accept)];
            let headers =
                headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            of_message(&headers.into_iter().collect()).is_ok()
        };
        assert!(accepts_both("application/json, text/event-stream;q=0.5"));
        assert!(accepts_both("*/*"));
        assert!(accepts_both("application/*, text/*"));
        assert!(!accepts_both("application/json"));
        assert!(!accepts_both("text/html"));
    }
}
