//! The gateway as a resource server: who shows a token of an authorization server, what they are told when it does not
//! do, and what anybody is told of where to get one (RFC 6750, RFC 9728). Verifying a token is another's work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use axum::response::Response;
use osvm_spec::ServerName;
use osvm_spec::config::{Grant, METADATA_PATH, Oauth, SecureUrl};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::access::Denied;
use super::refusal::json;

/// Tells tokens of authorization servers from others.
pub trait Verifier: fmt::Debug + Send + Sync {
    /// That it is the issuer's, made for one of the audiences, and good at the moment.
    fn verify<'v>(
        &'v self,
        token: &'v str,
        oauth: &'v Oauth,
        audiences: &'v [String],
    ) -> Verifying<'v>;
}

pub type Verifying<'v> = Pin<Box<dyn Future<Output = Result<Proven, Unproven>> + Send + 'v>>;

/// What a token says that is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Whom it stands for: `sub`.
    pub subject: String,
    /// Which client it was given to, if it says so.
    pub client: Option<String>,
    pub scopes: Vec<String>,
    /// When it is refused.
    pub until: SystemTime,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproven {
    /// It is no good. Said to whoever shows it.
    Invalid(String),
    /// That can't be told now, since its issuer can't be asked. An error that completes "failed to".
    Unknown(String),
}

/// Whom a token stands for, and what the configuration grants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// As records have it.
    pub(super) name: String,
    issuer: String,
    /// Another place of its keys may be another issuer's.
    jwks_uri: Option<String>,
    audience: String,
    subject: String,
    client: Option<String>,
    pub(super) grant: Grant,
    until: SystemTime,
}

/// Longest name of a subject in records, in characters.
const LONGEST_NAME: usize = 120;

/// What stands in such a name before the digest of one that can't be shown whole. A subject that has it itself is told by
/// its digest, too, so that nobody is named like another.
const SHORTENED: char = '#';

impl Subject {
    /// What was proven grants, to that server or to all; or what is missing.
    pub(super) fn of(proven: Proven, oauth: &Oauth, server: Option<&str>) -> Result<Self, Denied> {
        let grant = oauth.grant(&proven.scopes, server);
        let grant = grant.ok_or_else(|| insufficient(&proven, oauth, server))?.clone();
        Ok(Self {
            name: name(&proven.subject),
            issuer: oauth.issuer.as_str().to_owned(),
            jwks_uri: jwks_uri(oauth).map(str::to_owned),
            audience: oauth.audience.as_str().to_owned(),
            subject: proven.subject,
            client: proven.client,
            grant,
            until: proven.until,
        })
    }

    /// Whether the configuration still lets it in.
    pub(super) fn is_known(&self, oauth: &Oauth) -> bool {
        self.issuer == oauth.issuer.as_str()
            && self.jwks_uri.as_deref() == jwks_uri(oauth)
            && self.audience == oauth.audience.as_str()
            && oauth.grants.iter().any(|grant| grant.is(&self.grant))
    }

    /// The same for one subject with one client and one grant, whichever token they show; no other's.
    pub(super) fn key(&self) -> String {
        written(&(self.whom(), &self.client))
    }

    /// The same, as short as all others.
    pub(super) fn digest(&self) -> String {
        digest(&self.key())
    }

    /// The same for all clients of one subject with one grant, and as short: what one may have, many may not have more of.
    pub(super) fn account(&self) -> String {
        digest(&written(&self.whom()))
    }

    fn whom(&self) -> impl Serialize {
        let grant = (&self.grant.scope, self.grant.rights.without_limit());
        (&self.issuer, &self.jwks_uri, &self.audience, &self.subject, grant)
    }

    /// How long the token that it was last shown by is good.
    pub(super) fn left(&self) -> Duration {
        self.until.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

fn written(whom: &impl Serialize) -> String {
    serde_json::to_string(whom).expect("string keys and texts serialize")
}

fn digest(key: &str) -> String {
    format!("oauth:{}", digits(key).collect::<String>())
}

fn jwks_uri(oauth: &Oauth) -> Option<&str> {
    oauth.jwks_uri.as_ref().map(SecureUrl::as_str)
}

fn name(subject: &str) -> String {
    let prefix = "oauth:";
    let is_plain = |c: char| !c.is_control() && c != SHORTENED;
    if subject.chars().all(is_plain) && (prefix.len() + subject.chars().count()) <= LONGEST_NAME {
        return format!("{prefix}{subject}");
    }
    let digest: String = digits(subject).take(16).collect();
    let left = LONGEST_NAME - prefix.len() - digest.len() - SHORTENED.len_utf8();
    let shown = subject.chars().map(|c| if c.is_control() { '?' } else { c }).take(left);
    format!("{prefix}{}{SHORTENED}{digest}", shown.collect::<String>())
}

/// Of its SHA-256, in hexadecimal.
fn digits(text: &str) -> impl Iterator<Item = char> {
    let bytes: [u8; 32] = Sha256::digest(text).into();
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.into_iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

/// Whether a bearer token has the shape of signed claims: three parts of base64url.
pub(super) fn is_signed(token: &str) -> bool {
    let is_coded = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    token.split('.').count() == 3 && token.split('.').all(is_coded)
}

/// For whom a token must have been made that is shown to all servers, or to one.
pub(super) fn audiences(oauth: &Oauth, server: Option<&str>) -> Vec<String> {
    let own = server.map(|server| oauth.resource(Some(server)));
    own.into_iter().chain([oauth.resource(None)]).collect()
}

/// The value of `WWW-Authenticate`: where to learn whose tokens do, what is wrong with this one, and which scope would do.
/// Clients request what it names, so that is the least.
fn challenge(oauth: &Oauth, server: Option<&str>, error: Option<(&str, &str)>) -> String {
    let mut said = format!("Bearer resource_metadata=\"{}\"", oauth.metadata(server));
    if let Some((code, why)) = error {
        // What a quoted text may have (RFC 6750, section 3).
        let why = why.replace(|c: char| !(' '..='~').contains(&c) || c == '"' || c == '\\', "'");
        said += &format!(", error=\"{code}\", error_description=\"{why}\"");
    }
    if let Some(scope) = oauth.least_scope(server) {
        said += &format!(", scope=\"{scope}\"");
    }
    said
}

/// Of one who shows no token, or one that is no good.
pub(super) fn unproven(oauth: &Oauth, server: Option<&str>, why: Option<&str>) -> Denied {
    let error = why.map(|why| ("invalid_token", why));
    let challenge = challenge(oauth, server, error);
    let why = why.unwrap_or("a bearer token is needed").to_owned();
    Denied { status: StatusCode::UNAUTHORIZED, why, challenge: Some(challenge) }
}

/// Of one whose token is good, and does not do.
fn insufficient(proven: &Proven, oauth: &Oauth, server: Option<&str>) -> Denied {
    let why = match oauth.grant(&proven.scopes, None) {
        Some(_) => "the token's scopes do not grant this server",
        None => "the token's scopes grant nothing here",
    };
    let challenge = challenge(oauth, server, Some(("insufficient_scope", why)));
    Denied { status: StatusCode::FORBIDDEN, why: why.to_owned(), challenge: Some(challenge) }
}

/// Which server a path is of, as spelled by whoever has nothing to hide; `None` for that of all, and for others.
pub(super) fn server_of(path: &str) -> Option<&str> {
    let server = path.strip_prefix("/servers/")?.strip_suffix("/mcp")?;
    server.parse::<ServerName>().is_ok().then_some(server)
}

/// Whether everybody may read what is there.
pub(super) fn is_open(path: &str) -> bool {
    after(METADATA_PATH, path).is_some()
}

/// What is below a folder, or nothing for the folder itself.
fn after<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a resource says of itself, by the path of its metadata; `None` where there is no such resource. Whether there is
/// a server of that name is not said.
pub(super) fn metadata(oauth: &Oauth, path: &str) -> Option<Response> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        resource: String,
        authorization_servers: [&'a str; 1],
        /// What a client requests that was not told a scope: nothing that is for some server alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        scopes_supported: Option<[&'a str; 1]>,
        bearer_methods_supported: [&'static str; 1],
    }
    let path = path.strip_prefix(METADATA_PATH)?;
    let path = after(oauth.prefix(), path).unwrap_or(path);
    let server = match path {
        "" | "/" | "/mcp" => None,
        path => Some(server_of(path)?),
    };
    let metadata = Metadata {
        resource: oauth.resource(server),
        authorization_servers: [oauth.issuer.as_str()],
        scopes_supported: oauth.least_scope(None).map(|scope| [scope]),
        bearer_methods_supported: ["header"],
    };
    let text = serde_json::to_string(&metadata).expect("string keys and texts serialize");
    Some(json(StatusCode::OK, text))
}
