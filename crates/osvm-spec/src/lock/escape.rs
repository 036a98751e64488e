//! A stranger's text on the user's terminal: what it holds is seen, and does nothing.

/// The text with everything escaped that has no shape of its own: control characters, marks that turn the
/// direction of writing, what is invisible, what is not assigned. A line break is one of them.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_visible(c) {
            true => out.push(c),
            false => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Letters that are drawn as nothing.
const FILLERS: [char; 4] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];

/// Vowel signs of many scripts are letters and marks at once; other marks, and the invisible
/// selectors among them, are not letters, and Rust escapes them.
fn is_visible(c: char) -> bool {
    let has_shape = matches!(c, ' '..='~') || c.is_alphanumeric() || c.escape_debug().len() == 1;
    has_shape && !FILLERS.contains(&c)
}
