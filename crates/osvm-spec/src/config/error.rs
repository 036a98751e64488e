//! What can be wrong with a configuration file, and where.

use std::fmt;

use thiserror::Error;

use super::gateway::{TokenDigestError, TokenName, TokenNameError};
use super::oauth::{Scope, ScopeError, SecureUrlError};
use crate::command::CommandError;
use crate::{
    ChoiceError, FolderRuleError, HostRuleError, ImageRefError, Isolation, NameError,
    ResourcesError, SecretRuleError, ServerName, ToolPatternError,
};

/// A fault at a place of the file. Lines and columns start at 1; a column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct ConfigError {
    /// The file as the caller named it.
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("{0}")]
    Syntax(String),
    #[error("unknown key {key:?} in {section}{}", DidYouMean(.nearest))]
    UnknownKey { key: String, section: &'static str, nearest: Option<&'static str> },
    #[error("{section} has no {key:?}")]
    Missing { section: &'static str, key: &'static str },
    #[error("{key} is {found}, it must be {expected}")]
    Type { key: String, expected: &'static str, found: &'static str },
    #[error("{key} of {value} is outside {min} to {max}")]
    Range { key: &'static str, value: u64, min: u64, max: u64 },
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("{0}")]
    Choice(#[from] ChoiceError),
    #[error("{0}")]
    Resources(#[from] ResourcesError),
    #[error("{0}")]
    Command(#[from] CommandError),
    #[error("{0}")]
    Host(#[from] HostRuleError),
    #[error("{0}")]
    Folder(#[from] FolderRuleError),
    #[error("{0}")]
    Secret(#[from] SecretRuleError),
    #[error("{0}")]
    Image(#[from] ImageRefError),
    #[error("{0}")]
    ToolPattern(#[from] ToolPatternError),
    #[error("{0}")]
    TokenName(#[from] TokenNameError),
    #[error("{0}")]
    TokenDigest(#[from] TokenDigestError),
    #[error("{0}")]
    SecureUrl(#[from] SecureUrlError),
    #[error("{0}")]
    Scope(#[from] ScopeError),
    #[error("scope {scope} has a grant already, at line {first_line}")]
    DuplicateScope { scope: Scope, first_line: usize },
    #[error("the grant before this one is for every token, so this one never counts")]
    AfterAll,
    #[error("token {name} is already defined at line {first_line}")]
    DuplicateToken { name: TokenName, first_line: usize },
    #[error("this is the digest of the token at line {0}")]
    SameToken(usize),
    #[error("server {name} is already defined at line {first_line}")]
    DuplicateServer { name: ServerName, first_line: usize },
    #[error("tool {0:?} is listed twice")]
    DuplicateTool(String),
    #[error("tool {tool:?} has isolation {asked}, which is looser than its server's {server}")]
    Looser { tool: String, asked: Isolation, server: Isolation },
    #[error("url {0:?} is a remote server, which this version does not support; \"stdio\" is")]
    Remote(String),
    #[error("url {0:?} is not understood; \"stdio\" is")]
    Url(String),
    #[error("{0:?} is no name of an environment variable")]
    Variable(String),
    #[error("{0} contains a control character")]
    Control(String),
    #[error("template \"started\" is chosen server by server, under [[servers]]")]
    StartedForAll,
    #[error("base_image {0} is a package, and no image that has apt")]
    Base(String),
    #[error("working_dir {0:?} is not an absolute path")]
    RelativeDir(String),
}

struct DidYouMean<'a>(&'a Option<&'static str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(f, "; did you mean {key:?}?"))
    }
}

/// The text under examination: turns byte offsets into places.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn fault(&self, offset: usize, problem: impl Into<Problem>) -> ConfigError {
        let (line, column) = self.place(offset);
        ConfigError { file: self.file.to_owned(), line, column, problem: problem.into() }
    }

    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source { file: "f", text: "aé\nbc" };
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(3), (1, 3));
        assert_eq!(source.place(2), (1, 2), "inside a character is its start");
        assert_eq!(source.place(5), (2, 2));
        assert_eq!(source.place(99), (2, 3), "past the end is the end");
    }
}
