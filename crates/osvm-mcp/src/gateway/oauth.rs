//! The gateway as a resource server: who shows a token of an authorization server, what they are told when it does not
//! do, and what anybody is told of where to get one (RFC 6750, RFC 9728). Verifying a token is another's work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use axum::response::Response;
use osvm_spec::ServerName;
use osvm_spec::config::{Grant, METADATA_PATH, Oauth};
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
    audience: String,
    subject: String,
    client: Option<String>,
    pub(super) grant: Grant,
    until: SystemTime,
}

/// Longest name of a subject in records, in characters.
const LONGEST_NAME: usize = 120;

impl Subject {
    /// What was proven grants, to that server or to all; or what is missing.
    pub(super) fn of(proven: Proven, oauth: &Oauth, server: Option<&str>) -> Result<Self, Denied> {
        let found = oauth.grants.iter().position(|grant| grant.fits(&proven.scopes));
        let may_use = |grant: &Grant| server.is_none_or(|server| grant.rights.may_use(server));
        let missing = |why: &str, before: usize| {
            // Of the grants that would count instead.
            let enough = oauth.grants[..before].iter().find(|grant| may_use(grant));
            let scope = enough.and_then(|grant| Some(grant.scope.as_ref()?.as_str()));
            let error = Some(("insufficient_scope", why));
            let challenge = challenge(oauth, server, error, scope);
            let status = StatusCode::FORBIDDEN;
            Denied { status, why: why.to_owned(), challenge: Some(challenge) }
        };
        let Some(at) = found else {
            return Err(missing("the token's scopes grant nothing here", oauth.grants.len()));
        };
        let grant = oauth.grants[at].clone();
        if !may_use(&grant) {
            return Err(missing("the token's scopes do not grant this server", at));
        }
        Ok(Self {
            name: name(&proven.subject),
            issuer: oauth.issuer.as_str().to_owned(),
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
            && self.audience == oauth.audience.as_str()
            && oauth.grants.iter().any(|grant| grant.is(&self.grant))
    }

    /// The same for one subject with one client and one grant, whichever token they show; no other's.
    pub(super) fn key(&self) -> String {
        let grant = (&self.grant.scope, self.grant.rights.without_limit());
        let whom = (&self.issuer, &self.audience, &self.subject, &self.client, grant);
        serde_json::to_string(&whom).expect("string keys and texts serialize")
    }

    /// The same, as short as all others.
    pub(super) fn digest(&self) -> String {
        let digest = Sha256::digest(self.key());
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("oauth:{digits}")
    }

    /// How long the token that it was last shown by is good.
    pub(super) fn left(&self) -> Duration {
        self.until.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

fn name(subject: &str) -> String {
    let shown = subject.chars().map(|c| if c.is_control() { '?' } else { c });
    "oauth:".chars().chain(shown).take(LONGEST_NAME).collect()
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
pub(super) fn challenge(
    oauth: &Oauth,
    server: Option<&str>,
    error: Option<(&str, &str)>,
    scope: Option<&str>,
) -> String {
    let mut said = format!("Bearer resource_metadata=\"{}\"", oauth.metadata(server));
    if let Some((code, why)) = error {
        // What a quoted text may have (RFC 6750, section 3).
        let why = why.replace(|c: char| !(' '..='~').contains(&c) || c == '"' || c == '\\', "'");
        said += &format!(", error=\"{code}\", error_description=\"{why}\"");
    }
    if let Some(scope) = scope {
        said += &format!(", scope=\"{scope}\"");
    }
    said
}

/// Of one who shows no token, or one that is no good.
pub(super) fn unproven(oauth: &Oauth, server: Option<&str>, why: Option<&str>) -> Denied {
    let scopes = Some(oauth.scopes().join(" ")).filter(|scopes| !scopes.is_empty());
    let error = why.map(|why| ("invalid_token", why));
    let challenge = challenge(oauth, server, error, scopes.as_deref());
    let why = why.unwrap_or("a bearer token is needed").to_owned();
    Denied { status: StatusCode::UNAUTHORIZED, why, challenge: Some(challenge) }
}

/// Which server a path is of, as spelled by whoever has nothing to hide; `None` for that of all, and for others.
pub(super) fn server_of(path: &str) -> Option<&str> {
    let server = path.strip_prefix("/servers/")?.strip_suffix("/mcp")?;
    server.parse::<ServerName>().is_ok().then_some(server)
}

/// Whether everybody may read what is there.
pub(super) fn is_open(path: &str) -> bool {
    path.strip_prefix(METADATA_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a resource says of itself, by the path of its metadata; `None` where there is no such resource. Whether there is
/// a server of that name is not said.
pub(super) fn metadata(oauth: &Oauth, path: &str) -> Option<Response> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        resource: String,
        authorization_servers: [&'a str; 1],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        scopes_supported: Vec<&'a str>,
        bearer_methods_supported: [&'static str; 1],
    }
    let path = path.strip_prefix(METADATA_PATH)?;
    let path = path.strip_prefix(oauth.prefix()).unwrap_or(path);
    let server = match path {
        "" | "/" | "/mcp" => None,
        path => Some(server_of(path)?),
    };
    let metadata = Metadata {
        resource: oauth.resource(server),
        authorization_servers: [oauth.issuer.as_str()],
        scopes_supported: oauth.scopes(),
        bearer_methods_supported: ["header"],
    };
    let text = serde_json::to_string(&metadata).expect("string keys and texts serialize");
    Some(json(StatusCode::OK, text))
}
