//! A secret that a server is given in its environment, by the name of its variable and of its source:
//! `NAME`, `NAME=env:OTHER`, `NAME=file:PATH`, `NAME=keyring:SERVICE/ACCOUNT`. Never its value.

mod signs;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use signs::{holds_secret, looks_secret, secret_words, tells_secret};

use crate::config::is_variable;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRule {
    /// The variable in the server's environment.
    pub name: String,
    pub source: Source,
}

/// Where the value comes from, each time a session starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A variable of the process that calls or runs the server.
    Environment(String),
    /// A file that only its owner can read, without its last newline. As written: see
    /// [`Places`](crate::Places).
    File(String),
    /// An item of the desktop's Secret Service.
    Keyring { service: String, account: String },
}

impl SecretRule {
    /// All of them; the stronger wins, name by name.
    pub fn merge(weaker: Vec<Self>, stronger: &[Self]) -> Vec<Self> {
        let mut all = weaker;
        all.retain(|rule| stronger.iter().all(|other| other.name != rule.name));
        all.extend_from_slice(stronger);
        all
    }
}

/// Names with their values, on their way into a server's environment. Never shown, never written down.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What is to be added to an environment.
    pub fn pairs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

impl FromIterator<(String, String)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Secrets {
    /// The names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a text is no secret and its source. Does not repeat the text, which may hold what was meant to be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretRuleError {
    #[error("secret has no name that can be a variable's")]
    Name,
    #[error(
        "secret {name}: its source is none of env:VARIABLE, file:PATH and keyring:SERVICE/ACCOUNT \
         (a secret's value is never written down)"
    )]
    Source { name: String },
}

impl FromStr for SecretRule {
    type Err = SecretRuleError;

    fn from_str(text: &str) -> Result<Self, SecretRuleError> {
        let (name, source) = match text.split_once('=') {
            None => (text, Some(Source::Environment(text.to_owned()))),
            Some((name, source)) => (name, parse_source(source)),
        };
        if !is_variable(name) || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(SecretRuleError::Name);
        }
        let name = name.to_owned();
        match source {
            Some(source) => Ok(Self { name, source }),
            None => Err(SecretRuleError::Source { name }),
        }
    }
}

fn parse_source(text: &str) -> Option<Source> {
    let (kind, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty())?;
    match kind {
        "env" => is_variable(rest).then(|| Source::Environment(rest.to_owned())),
        "file" => Some(Source::File(rest.to_owned())),
        "keyring" => {
            let (service, account) = rest.rsplit_once('/')?;
            let (service, account) = (service.to_owned(), account.to_owned());
            (!service.is_empty() && !account.is_empty())
                .then_some(Source::Keyring { service, account })
        }
        _ => None,
    }
}

impl fmt::Display for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.source {
            Source::Environment(variable) if variable == name => f.write_str(name),
            Source::Environment(variable) => write!(f, "{name}=env:{variable}"),
            Source::File(path) => write!(f, "{name}=file:{path}"),
            Source::Keyring { service, account } => {
                write!(f, "{name}=keyring:{service}/{account}")
            }
        }
    }
}

impl TryFrom<String> for SecretRule {
    type Error = SecretRuleError;

    fn try_from(text: String) -> Result<Self, SecretRuleError> {
        text.parse()
    }
}

impl From<SecretRule> for String {
    fn from(rule: SecretRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shown_as_they_are_written() {
        for text in ["TOKEN", "TOKEN=env:GH", "TOKEN=file:~/.t", "TOKEN=keyring:a/b/c"] {
            assert_eq!(text.parse::<SecretRule>().unwrap().to_string(), text);
        }
        assert_eq!("T=env:T".parse::<SecretRule>().unwrap().to_string(), "T");
    }

    #[test]
    fn values_are_never_shown() {
        let secrets: Secrets = [("TOKEN".to_owned(), "hunter2".to_owned())].into_iter().collect();
        assert_eq!(format!("{secrets:?}"), r#"{"TOKEN"}"#);
    }

    #[test]
    fn a_value_in_place_of_a_source_is_refused_and_not_repeated() {
        let refused = |text: &str| text.parse::<SecretRule>().unwrap_err();
        for text in
            ["TOKEN=ghp_hunter2", "TOKEN=", "TOKEN=file:", "TOKEN=keyring:a", "TOKEN=env:a=b"]
        {
            let error = refused(text);
            assert_eq!(error, SecretRuleError::Source { name: "TOKEN".into() });
            assert!(!error.to_string().contains("hunter2"));
        }
        for text in ["", "=env:A", "A B", "a-b"] {
            assert_eq!(refused(text), SecretRuleError::Name, "{text}");
        }
    }
}
