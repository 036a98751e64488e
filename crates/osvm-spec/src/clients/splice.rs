//! Pieces of a text replaced; every byte outside of them stays.

use std::ops::Range;

/// What comes in place of these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) cut: Range<usize>,
    pub(super) text: String,
}

impl Splice {
    pub(super) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self { cut: at..at, text: text.into() }
    }

    pub(super) fn replace(cut: Range<usize>, text: impl Into<String>) -> Self {
        Self { cut, text: text.into() }
    }

    pub(super) fn remove(cut: Range<usize>) -> Self {
        Self { cut, text: String::new() }
    }
}

/// The text with all of them done. They don't overlap; at one place the first comes first.
pub(super) fn spliced(text: &str, mut splices: Vec<Splice>) -> String {
    splices.sort_by_key(|splice| splice.cut.start);
    let mut new = String::with_capacity(text.len());
    let mut done = 0;
    for Splice { cut, text: piece } in splices {
        new += &text[done..cut.start];
        new += &piece;
        done = cut.end;
    }
    new + &text[done..]
}

/// The first place from here on that is neither white space nor in a comment.
pub(super) fn after_trivia(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        match comment(&text[at..]) {
            Some(length) => at += length,
            None => return at,
        }
    }
}

/// The same within the line.
pub(super) fn after_trivia_of_line(text: &str, from: usize) -> usize {
    let mut at = from;
    let mut end = from;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
        match comment(&text[at..]) {
            Some(length) if !text[at..at + length].contains('\n') => at += length,
            _ => return end,
        }
        end = at;
    }
}

/// Length of the comment that begins here. A lone carriage return ends one, too.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find(['\n', '\r']).unwrap_or(text.len()));
    }
    let inner = text.strip_prefix("/*")?;
    inner.find("*/").map(|end| end + 4)
}

/// The white space that the line of this place begins with, if nothing else stands before the place.
pub(super) fn indent(text: &str, at: usize) -> Option<&str> {
    let before = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..at];
    before.trim().is_empty().then_some(before)
}

/// Up to and with the end of the line, if nothing else stands behind the place.
pub(super) fn rest_of_line(text: &str, at: usize) -> Option<usize> {
    let line = text[at..].split_inclusive('\n').next().unwrap_or_default();
    (line.ends_with('\n') && line.trim().is_empty()).then_some(at + line.len())
}

/// The white space that the line of this place begins with.
pub(super) fn indent_of_line(text: &str, at: usize) -> &str {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}
