//! What a server has written so far, kept for the people who wonder why it does not answer.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use crate::lines;

/// Lines remembered, and characters of each.
const LAST: usize = 3;
const WIDTH: usize = 120;

/// Counts of what was read, and the last lines that were no messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages of the protocol, of any kind.
    pub messages: u64,
    /// Responses to requests that nobody waits for: answered twice, cancelled, or never sent.
    pub strays: u64,
    /// Lines that are no messages.
    pub garbage: u64,
    /// The last of them, oldest first, shortened and safe to print.
    pub last_garbage: VecDeque<String>,
    /// What there is of the line that the first message should be on, likewise.
    pub unfinished: String,
}

impl Received {
    pub(crate) fn add_garbage(&mut self, line: &str) {
        self.garbage += 1;
        if self.last_garbage.len() == LAST {
            self.last_garbage.pop_front();
        }
        self.last_garbage.push_back(shortened(line));
    }

    /// A prompt without a line end explains a silence; once there are messages, nothing need.
    pub(crate) fn set_unfinished(&mut self, line: &[u8]) {
        let start = &line[..line.len().min(WIDTH)];
        self.unfinished = match self.messages {
            0 => shortened(&lines::text(start)),
            _ => String::new(),
        };
    }
}

fn shortened(line: &str) -> String {
    let end = line.char_indices().nth(WIDTH).map_or(line.len(), |(end, _)| end);
    printable(&line[..end]).into_owned()
}

/// Completes "received so far: ...".
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.messages > 0 {
            parts.push(Counted(self.messages, "message").to_string());
        }
        if self.garbage > 0 {
            let lines = Counted(self.garbage, "line");
            let last: Vec<_> = self.last_garbage.iter().map(|line| format!("`{line}`")).collect();
            parts.push(format!("{lines} of other text, the last: {}", last.join(", ")));
        }
        if !self.unfinished.is_empty() {
            parts.push(format!("an unfinished line: `{}`", self.unfinished));
        }
        let nothing = if parts.is_empty() { "nothing" } else { "" };
        write!(f, "{nothing}{}", parts.join(" and "))
    }
}

struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        write!(f, "{count} {noun}{}", if *count == 1 { "" } else { "s" })
    }
}

/// A hostile text, harmless for a terminal: line ends and tabs become blanks, other control
/// characters and those that turn the direction of writing U+FFFD.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let safe = |c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if harmful(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(safe).collect())
}

fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_chatter_read_well() {
        let mut received = Received::default();
        assert_eq!(received.to_string(), "nothing");
        received.add_garbage("Listening...");
        assert_eq!(received.to_string(), "1 line of other text, the last: `Listening...`");
        received.set_unfinished(b"\0Password: ");
        assert_eq!(
            received.to_string(),
            "1 line of other text, the last: `Listening...` and an unfinished line: `Password:`"
        );
        received.messages = 2;
        received.set_unfinished(b"half a mess");
        assert_eq!(
            received.to_string(),
            "2 messages and 1 line of other text, the last: `Listening...`"
        );
    }

    #[test]
    fn only_the_last_lines_are_kept_short_and_without_escapes() {
        let mut received = Received::default();
        for line in ["a", "b", "c", "\u{1b}[2Jd\u{9b}e\0"] {
            received.add_garbage(line);
        }
        received.add_garbage(&"x".repeat(100_000));
        assert_eq!(received.garbage, 5);
        assert_eq!(received.last_garbage[1], "\u{fffd}[2Jd\u{fffd}e\u{fffd}");
        assert_eq!(received.last_garbage[2].len(), WIDTH);
        assert_eq!(received.last_garbage.len(), 3);
    }
}
