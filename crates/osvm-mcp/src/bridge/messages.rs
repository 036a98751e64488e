//! What the bridge says for itself, as lines without their end; and the messages of a line that it hears.

use serde_json::value::RawValue;

use super::splice::{fields, quoted};
use crate::envelope::{Envelope, each_element};
use crate::lines;
use crate::protocol::{INVALID_REQUEST, PARSE_ERROR};

/// Of the legacy era, and of `resources/read` alone; the modern one has [`INVALID_PARAMS`] in its place.
pub(super) const RESOURCE_NOT_FOUND: &str = "-32002";
/// Of 2025-11-25 alone: the user has to open an address first. The modern era asks for that before it fails.
pub(super) const ADDRESS_REQUIRED: &str = "-32042";
/// Of the modern era alone: the client has to state something that it does not.
pub(super) const CAPABILITY_MISSING: &str = "-32021";

/// Messages of one batch. More are refused as one.
const MOST_IN_BATCH: usize = 256;

/// Longest id that is taken, in bytes.
const LONGEST_ID: usize = 1 << 10;

pub(super) fn request(id: &str, method: &str, params: &str) -> Vec<u8> {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into_bytes()
}

pub(super) fn notification(method: &str, params: &str) -> Vec<u8> {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#).into_bytes()
}

pub(super) fn result(id: &str, result: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes()
}

pub(super) fn cancelled(id: &str, why: &str) -> Vec<u8> {
    let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, quoted(why));
    notification("notifications/cancelled", &params)
}

/// Which request a notification of that kind is about.
pub(super) fn cancels<'a>(message: &Envelope<'a>) -> Option<&'a RawValue> {
    let [id] = fields(message.params?.get(), ["requestId"])?;
    id
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) code: i64,
    pub(crate) message: String,
    /// As JSON.
    pub(super) data: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// As the answer to a request.
    pub(crate) fn answers(&self, id: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, self.error()).into_bytes()
    }

    /// As the answer to a line that was no request.
    pub(super) fn answers_none(&self) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","error":{}}}"#, self.error()).into_bytes()
    }

    fn error(&self) -> String {
        let Self { code, message, data } = self;
        let data = data.as_ref().map_or_else(String::new, |data| format!(r#","data":{data}"#));
        format!(r#"{{"code":{code},"message":{}{data}}}"#, quoted(message))
    }
}

/// An id by which one is found: of strings that are spelled in different ways there is one.
pub(super) fn key(id: &RawValue) -> String {
    match serde_json::from_str::<String>(id.get()) {
        Ok(text) => quoted(&text),
        Err(_) => id.get().to_owned(),
    }
}

/// Visits the message of a line, or each of a batch. Says why, where there is something else; an empty line is nothing.
pub(super) fn each(line: &[u8], visit: &mut dyn FnMut(&Envelope<'_>)) -> Result<(), Refusal> {
    let text = lines::text(line);
    let unreadable = |error: &dyn std::fmt::Display| {
        Refusal::new(PARSE_ERROR, format!("the message can't be read: {error}"))
    };
    if text.is_empty() {
        return Ok(());
    }
    if !text.starts_with('[') {
        let message = Envelope::parse(&text).map_err(|error| unreadable(&error))?;
        return visited(&message, visit);
    }
    let (mut count, mut fault) = (0, Ok(()));
    let all = each_element(&text, &mut |_| {
        count += 1;
        count <= MOST_IN_BATCH
    });
    if count > MOST_IN_BATCH {
        let why = format!("a batch has more than {MOST_IN_BATCH} messages");
        return Err(Refusal::new(INVALID_REQUEST, why));
    }
    all.map_err(|error| unreadable(&error))?;
    let _ = each_element(&text, &mut |element| {
        let message = Envelope::parse(element.get()).map_err(|error| unreadable(&error));
        let heard = message.and_then(|message| visited(&message, visit));
        if heard.is_err() {
            fault = heard;
        }
        true
    });
    fault
}

fn visited(message: &Envelope<'_>, visit: &mut dyn FnMut(&Envelope<'_>)) -> Result<(), Refusal> {
    if message.id.is_some_and(|id| id.get().len() > LONGEST_ID) {
        let why = format!("a message's id is longer than {LONGEST_ID} bytes");
        return Err(Refusal::new(INVALID_REQUEST, why));
    }
    visit(message);
    Ok(())
}
