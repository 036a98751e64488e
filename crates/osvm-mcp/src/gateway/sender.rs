//! Who sends a request, and what is served to them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use osvm_spec::ToolPattern;
use osvm_spec::config::{Oauth, Rights, Token, TokenDigest, TokenName};

use super::oauth::Subject;
use super::refusal::Refusal;
use crate::OnBehalf;

/// Tokens beside the gateway's own, as they are at the moment. Asked for each request.
pub trait Tokens: fmt::Debug + Send + Sync {
    /// The one with this digest; or why that is not known.
    fn find(&self, digest: &TokenDigest) -> Result<Option<Token>, String>;

    /// The authorization server whose tokens are taken, too; or why that is not known.
    fn oauth(&self) -> Result<Option<Oauth>, String>;
}

/// By what a request was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sender {
    /// Nothing: no token is asked for.
    Anybody,
    /// The gateway's own token, which may do everything.
    Own,
    /// One that has limits.
    Holder(Token),
    /// One that an authorization server has given somebody.
    Subject(Subject),
}

/// A request: who sends it, whom to, and what its headers say.
#[derive(Clone, Copy)]
pub(super) struct Visit<'r> {
    pub(super) sender: &'r Arc<Sender>,
    /// `None` for all.
    pub(super) server: Option<&'r str>,
    pub(super) headers: &'r HeaderMap,
}

impl<'r> Visit<'r> {
    /// Unless the server is not for its sender, whether or not there is one of that name.
    pub(super) fn new(
        sender: &'r Arc<Sender>,
        name: &'r Option<Path<String>>,
        headers: &'r HeaderMap,
    ) -> Result<Self, Refusal> {
        let server = name.as_ref().map(|Path(name)| name.as_str());
        match server.filter(|server| !sender.may_use(server)) {
            Some(server) => {
                let why = format!("token {} may not use server {server}", sender.name());
                Err(Refusal::http(StatusCode::FORBIDDEN, why))
            }
            None => Ok(Self { sender, server, headers }),
        }
    }
}

impl Sender {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Anybody => "(none)",
            Self::Own => TokenName::DEFAULT,
            Self::Holder(token) => token.name.as_str(),
            Self::Subject(subject) => &subject.name,
        }
    }

    /// `None` for all there are.
    pub(super) fn rights(&self) -> Option<&Rights> {
        match self {
            Self::Anybody | Self::Own => None,
            Self::Holder(token) => Some(&token.rights),
            Self::Subject(subject) => Some(&subject.grant.rights),
        }
    }

    pub(super) fn may_use(&self, server: &str) -> bool {
        self.rights().is_none_or(|rights| rights.may_use(server))
    }

    /// The tools of a server that it may call, by the server's own names; `None` for all.
    fn tools_of(&self, server: &str) -> Option<Vec<ToolPattern>> {
        let tools = self.rights()?.tools.as_ref()?;
        let prefix = format!("{server}__");
        Some(tools.iter().flat_map(|pattern| pattern.after(&prefix)).collect())
    }

    /// Whom a server process is opened for: this one, or any that may call the same tools.
    pub(super) fn on_behalf(&self, server: &str, is_shared: bool) -> OnBehalf {
        let tools = self.tools_of(server);
        let (token, holder) = match self {
            _ if is_shared => (None, None),
            Self::Anybody => (None, None),
            Self::Own | Self::Holder(_) => (Some(self.name().to_owned()), None),
            Self::Subject(subject) => (Some(subject.name.clone()), Some(subject.digest())),
        };
        OnBehalf { token, holder, tools }
    }

    /// Whether what one has begun is the other's: the same token with the same rights. Of one that was made anew under
    /// its old name, or may do something else now, it is not.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Holder(one), Self::Holder(other)) => without_limit(one) == without_limit(other),
            (Self::Subject(one), Self::Subject(other)) => one.key() == other.key(),
            _ => self == other,
        }
    }

    /// The same for those that are the same, and no others.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Anybody | Self::Own => self.name().to_owned(),
            Self::Holder(token) => serde_json::to_string(&without_limit(token))
                .expect("string keys and texts serialize"),
            Self::Subject(subject) => subject.key(),
        }
    }

    /// By what it is counted how much one has; `None` for those who may have all of it.
    pub(super) fn account(&self) -> Option<String> {
        match self {
            Self::Anybody | Self::Own => None,
            Self::Holder(token) => Some(token.name.to_string()),
            Self::Subject(subject) => Some(subject.account()),
        }
    }

    /// What it is one of.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Anybody => "client",
            Self::Own | Self::Holder(_) => "token",
            Self::Subject(_) => "subject",
        }
    }

    /// How long what it was let in by is good; `None` for as long as it is known.
    pub(super) fn left(&self) -> Option<Duration> {
        match self {
            Self::Subject(subject) => Some(subject.left()),
            _ => None,
        }
    }
}

fn without_limit(token: &Token) -> Token {
    Token { rights: token.rights.without_limit(), ..token.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, servers: &[&str], tools: &[&str]) -> Token {
        let servers: Vec<_> = servers.iter().map(|name| name.parse().unwrap()).collect();
        let tools: Vec<_> = tools.iter().map(|tool| tool.parse().unwrap()).collect();
        Token {
            name: name.parse().unwrap(),
            sha256: TokenDigest::of(name),
            rights: Rights {
                servers: Some(servers).filter(|some| !some.is_empty()),
                tools: Some(tools).filter(|some| !some.is_empty()),
                requests_per_minute: None,
            },
        }
    }

    #[test]
    fn tools_are_told_by_the_servers_own_names() {
        let whom = |tools: &[&str], server: &str| {
            let told = Sender::Holder(token("ci", &[], tools)).on_behalf(server, false).tools;
            told.map(|tools| tools.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(whom(&[], "time"), None);
        let some = ["time__*", "files__read_*", "*_list"];
        assert_eq!(whom(&some, "time"), Some(vec!["*".into(), "*_list".into(), "list".into()]));
        let files = vec!["read_*".into(), "*_list".into(), "list".into()];
        assert_eq!(whom(&some, "files"), Some(files));
        assert_eq!(whom(&["time__*"], "files"), Some(vec![]), "no tool at all");
    }

    #[test]
    fn only_the_same_token_with_the_same_rights_is_the_same() {
        let one = Sender::Holder(token("ci", &["time"], &[]));
        let mut faster = token("ci", &["time"], &[]);
        faster.rights.requests_per_minute = std::num::NonZeroU32::new(9);
        assert!(one.is(&Sender::Holder(faster.clone())));
        assert_eq!(one.key(), Sender::Holder(faster).key());
        let anew = Token { sha256: TokenDigest::of("other"), ..token("ci", &["time"], &[]) };
        for other in [
            Sender::Own,
            Sender::Anybody,
            Sender::Holder(anew),
            Sender::Holder(token("ci", &["time", "files"], &[])),
            Sender::Holder(token("ci", &["time"], &["time__now"])),
            Sender::Holder(token("cd", &["time"], &[])),
        ] {
            assert!(!one.is(&other), "{other:?}");
            assert_ne!(one.key(), other.key());
        }
    }
}
