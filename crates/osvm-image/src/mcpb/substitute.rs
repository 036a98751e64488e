//! `${...}` in a manifest's texts: found once, from left to right. A value that holds `${...}` itself is
//! not looked at again.

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// What is between the braces.
    Variable(&'a str),
}

pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, name, after)) = next(rest) {
        parts.push(Part::Text(before));
        parts.push(Part::Variable(name));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

/// The key, if the whole text is `${user_config.KEY}`.
pub(super) fn only_setting(text: &str) -> Option<&str> {
    match parts(text).as_slice() {
        [Part::Variable(name)] => setting(name),
        _ => None,
    }
}

/// The key of `user_config.KEY`.
pub(super) fn setting(name: &str) -> Option<&str> {
    name.strip_prefix("user_config.")
}

fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}
