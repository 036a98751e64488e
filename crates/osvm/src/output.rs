//! Standard output and standard error: what may be written to each, and in which dress.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::environment;
use crate::error::{CliError, Kind};

pub(crate) const RED: &str = "\x1b[1;31m";
pub(crate) const YELLOW: &str = "\x1b[1;33m";
pub(crate) const GREEN: &str = "\x1b[1;32m";
pub(crate) const CYAN: &str = "\x1b[1;36m";
const PLAIN: &str = "\x1b[0m";

/// Whether a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// One line on standard output.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    text_bytes(format!("{text}\n").as_bytes())
}

pub(crate) fn text(text: &str) -> Result<(), CliError> {
    text_bytes(text.as_bytes())
}

/// The one JSON document of a command that was asked for JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed(format!("can't write the answer as JSON: {error}")))?;
    line(text)
}

fn text_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(closed)
}

/// Why standard output takes no more.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn closed(error: io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::new(Kind::Closed, "standard output was closed"),
        _ => CliError::failed(format!("can't write to standard output: {error}")),
    }
}

/// A line on standard error that is no error.
pub(crate) fn warning(text: impl Display) {
    let line = format!("{}{}\n", label("warning", YELLOW), safe(&text.to_string()));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Text on standard error that belongs to no other line.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// What to type next, after a command that worked. Only for people.
pub(crate) fn hint(text: impl Display) {
    if io::stderr().is_terminal() {
        let line = format!("{}{text}\n", label("hint", CYAN));
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// `word: `, coloured on a terminal.
pub(crate) fn label(word: &str, colour: &str) -> String {
    paint(word, colour, io::stderr().is_terminal()) + ": "
}

/// A word in colour, where the stream it goes to is a terminal that wants colour.
pub(crate) fn paint(word: &str, colour: &str, terminal: bool) -> String {
    match terminal && environment::wants_colour() {
        true => format!("{colour}{word}{PLAIN}"),
        false => word.to_owned(),
    }
}

/// Text from a server or a guest with its control characters made visible: it must not steer the
/// terminal it is shown on.
pub(crate) fn safe(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() || is_bidi(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(visible).collect()
}

/// Bytes in the unit that suits them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// Characters that change the direction of what follows, and so what a line seems to say.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_keeps_its_lines_and_loses_its_powers() {
        assert_eq!(safe("a\n\tb\r\x1b]0;x\x07\u{202e}"), "a\n\tb\\u{d}\\u{1b}]0;x\\u{7}\\u{202e}");
    }
}
