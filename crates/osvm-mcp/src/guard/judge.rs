//! A line, of which each message is judged.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{INTERNAL_ERROR, null};
use crate::envelope::{self, Envelope, each_element};
use crate::lines;

/// What becomes of one message.
pub(super) enum Fate {
    Passes,
    Becomes(String),
    Stays,
}

impl Fate {
    /// An error in place of a response.
    pub(super) fn instead(message: &Envelope<'_>, why: &str) -> Self {
        let id = message.id.map_or_else(null, RawValue::to_owned);
        let line = envelope::error(&id, INTERNAL_ERROR, why);
        Self::Becomes(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    /// The same, of another message that this one stands for.
    pub(super) fn spelled(self, text: String) -> Self {
        match self {
            Self::Passes => Self::Becomes(text),
            other => other,
        }
    }
}

/// What goes on of a line, of which each message is judged. What holds none goes on as it is.
pub(super) fn each<'a>(
    line: &'a [u8],
    judge: &mut dyn FnMut(&Envelope<'_>) -> Fate,
) -> Cow<'a, [u8]> {
    let text = lines::text(line);
    let mut judge = |text: &str| Envelope::parse(text).map_or(Fate::Passes, |it| judge(&it));
    if !text.starts_with('[') {
        return match judge(&text) {
            Fate::Passes => line.into(),
            Fate::Becomes(text) => (text + "\n").into_bytes().into(),
            Fate::Stays => Cow::default(),
        };
    }
    let (mut kept, mut is_changed) = (Vec::new(), false);
    let whole = each_element(&text, &mut |element| {
        match judge(element.get()) {
            Fate::Passes => kept.push(Cow::Borrowed(element.get())),
            Fate::Becomes(text) => {
                is_changed = true;
                kept.push(text.into());
            }
            Fate::Stays => is_changed = true,
        }
        true
    });
    match (is_changed, kept.is_empty()) {
        (false, _) => line.into(),
        (true, true) => Cow::default(),
        (true, false) => {
            let end = if whole.is_ok() { "]\n" } else { "\n" };
            ["[", &kept.join(","), end].concat().into_bytes().into()
        }
    }
}

/// Whether a server could find another message in a line than osvm does: it is none to osvm, is spelled in bytes that
/// are no text, or holds what some take for the end of a line.
pub(super) fn is_ambiguous(line: &[u8]) -> bool {
    let text = lines::text(line);
    let is_message = |text: &str| Envelope::parse(text).is_ok();
    let mut are_messages = true;
    let is_clear = match text.starts_with('[') {
        false => text.is_empty() || is_message(&text),
        true => {
            let whole = each_element(&text, &mut |element| {
                are_messages &= is_message(element.get());
                true
            });
            whole.is_ok() && are_messages
        }
    };
    !is_clear || text.contains('\r') || std::str::from_utf8(line).is_err()
}
