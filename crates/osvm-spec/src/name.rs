//! The name of a server: what users type, and part of paths and of tool names on a gateway.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// 1 to 64 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

/// Why a text is no server name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("server name is empty")]
    Empty,
    #[error("server name has {0} characters, the limit is {max}", max = ServerName::MAX)]
    TooLong(usize),
    #[error(
        "server name {name:?} contains {bad:?}; letters, digits, '-', '_' and '.' are allowed, \
         and the first character is a letter or digit"
    )]
    Character { name: String, bad: char },
}

impl ServerName {
    /// Longest name, in characters: names become parts of Unix socket paths, which end at 108 bytes.
    pub const MAX: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that is most like this text: `My-server` for `My server!`, `server` for what has no letter.
    pub fn like(text: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = text.chars().map(plain).collect();
        let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let name = name[..name.len().min(Self::MAX)].trim_end_matches('-');
        Self(if name.is_empty() { "server" } else { name }.to_owned())
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        let count = text.chars().count();
        if count > Self::MAX {
            return Err(NameError::TooLong(count));
        }
        let inner = |c: &char| !(c.is_ascii_alphanumeric() || "-_.".contains(*c));
        let bad = Some(first).filter(|c| !c.is_ascii_alphanumeric());
        match bad.or_else(|| text.chars().find(inner)) {
            Some(bad) => Err(NameError::Character { name: text.to_owned(), bad }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ServerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_names_are_taken() {
        for name in ["a", "my-server", "server_2", "io.github.thing", &"x".repeat(64)] {
            assert_eq!(name.parse::<ServerName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn every_text_has_a_name_that_is_like_it() {
        for (text, name) in [
            ("files", "files"),
            ("My server!", "My-server"),
            ("@scope/x", "scope-x"),
            ("..", "server"),
            ("é", "server"),
            ("", "server"),
        ] {
            assert_eq!(ServerName::like(text).as_str(), name);
        }
        assert!(ServerName::like(&"é-x".repeat(99)).as_str().parse::<ServerName>().is_ok());
    }

    #[test]
    fn names_that_could_mislead_a_path_or_a_terminal_are_refused() {
        for name in ["", "../x", ".hidden", "-flag", "a b", "a\nb", "a/b", "é", &"x".repeat(300)] {
            assert!(name.parse::<ServerName>().is_err(), "{name:?}");
        }
    }
}
