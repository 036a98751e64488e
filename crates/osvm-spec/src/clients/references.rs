//! What a client puts in place of a text before it starts a server: `${input:token}`, `${env:HOME}`, `${HOME}`,
//! `$HOME`.

/// Whether the client fills something in. A lone `$` is one of a password's.
pub fn refers(text: &str) -> bool {
    let has_braces = text.split_once("${").is_some_and(|(_, rest)| rest.contains('}'));
    let variable = text.strip_prefix('$').unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_variable = variable.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    has_braces || (is_variable && variable.chars().all(is_plain))
}

/// The text with the user's home and the current folder put in, as far as it begins with one of them.
pub fn with_folders(text: &str, home: Option<&str>, current: Option<&str>) -> String {
    let names =
        HOMES.iter().map(|name| (name, home)).chain(CURRENT.iter().map(|name| (name, current)));
    for (name, folder) in names {
        let rest = text.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let (Some(rest), Some(folder)) = (rest, folder) {
            return folder.trim_end_matches('/').to_owned() + rest;
        }
    }
    text.to_owned()
}

const HOMES: [&str; 5] = ["~", "$HOME", "${HOME}", "${env:HOME}", "${userHome}"];
const CURRENT: [&str; 6] = [
    "$PWD",
    "${PWD}",
    "${env:PWD}",
    "${workspaceFolder}",
    "${workspaceRoot}",
    "${CLAUDE_PROJECT_DIR}",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_fills_in_is_told_from_plain_text() {
        for text in ["${input:t}", "${env:A}", "$TOKEN", "Bearer ${T}", "${A:-b}"] {
            assert!(refers(text), "{text}");
        }
        for text in ["pa$$word", "$", "$1", "a$B", "{x}", "${", "$lower"] {
            assert!(!refers(text), "{text}");
        }
    }

    #[test]
    fn known_folders_are_put_in() {
        let filled = |text| with_folders(text, Some("/home/u"), Some("/work/"));
        for (text, full) in [
            ("~", "/home/u"),
            ("~/a", "/home/u/a"),
            ("~root/a", "~root/a"),
            ("${env:HOME}/a b", "/home/u/a b"),
            ("${workspaceFolder}/x", "/work/x"),
            ("$HOMER", "$HOMER"),
            ("a/~", "a/~"),
        ] {
            assert_eq!(filled(text), full);
        }
        assert_eq!(with_folders("~/a", None, None), "~/a");
    }
}
