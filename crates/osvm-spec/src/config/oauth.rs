//! `[gateway.oauth]`: whose tokens the gateway takes beside its own, and what they are good for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;
use url::{Host, Url};

use super::section::Section;
use super::{ConfigError, Problem, Rights};

/// An authorization server, and what its tokens are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oauth {
    /// What tokens say that they are from, letter by letter.
    pub issuer: SecureUrl,
    /// What they must be made for. The address of `/mcp` as clients know it.
    pub audience: SecureUrl,
    /// Where the issuer's keys are; its metadata says so when this does not.
    pub jwks_uri: Option<SecureUrl>,
    /// At least one. The first whose scope a token has counts.
    pub grants: Vec<Grant>,
}

/// `[[gateway.oauth.grants]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// `None` for every token that is valid, which is written `*`.
    pub scope: Option<Scope>,
    #[serde(flatten)]
    pub rights: Rights,
}

/// A scope as RFC 6749 spells it (section 3.3): visible ASCII but `"` and `\`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Scope(String);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("scope {0:?} is none: 1 to {max} visible ASCII characters but '\"' and '\\' are", max = Scope::MAX)]
pub struct ScopeError(String);

/// An address that nobody on the way reads or answers for: `https`, or `http` on this host's loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureUrl {
    text: String,
    url: Url,
}

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecureUrlError {
    #[error("{text:?} is no address: {why}")]
    Malformed { text: String, why: String },
    #[error(
        "{0:?} can be read and changed on the way; it must be https, or http on a loopback address"
    )]
    Open(String),
    #[error("{0:?} has a user's name or a fragment, which it must not")]
    Extra(String),
    #[error("{0:?} has a query, which it must not")]
    Query(String),
    #[error("{0:?} does not end in /mcp, which those of single servers are made of")]
    NotMcp(String),
}

/// What the gateway's address of all servers ends in.
const MCP: &str = "/mcp";
/// The scope of a grant that is for every token.
const EVERY: &str = "*";

pub(super) const OAUTH_KEYS: &[&str] = &["issuer", "audience", "jwks_uri", "grants"];
pub(super) const GRANT_KEYS: &[&str] = &["scope", "servers", "tools", "requests_per_minute"];

/// Where resources tell who gives tokens for them (RFC 9728).
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

impl Oauth {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let plain = |key: &'static str| {
            let url = section.parsed::<SecureUrl>(key)?;
            section.checked(key, url, SecureUrl::without_query)
        };
        let audience = section.checked("audience", plain("audience")?, SecureUrl::ending_in_mcp)?;
        let grants = section.tables("grants", "[[gateway.oauth.grants]]", GRANT_KEYS)?;
        let grants = Some(grants).filter(|grants| !grants.is_empty());
        let grants = section.required("grants", grants)?;
        Ok(Self {
            issuer: section.required("issuer", plain("issuer")?)?,
            audience: section.required("audience", audience)?,
            jwks_uri: section.parsed("jwks_uri")?,
            grants: read_grants(&grants)?,
        })
    }

    /// What a client calls all servers, or one: the audience, or the address of that server beside it.
    pub fn resource(&self, server: Option<&str>) -> String {
        match server {
            None => self.audience.text.clone(),
            Some(server) => format!("{}/servers/{server}/mcp", self.root()),
        }
    }

    /// Where that one's metadata is.
    pub fn metadata(&self, server: Option<&str>) -> String {
        let resource =
            Url::parse(&self.resource(server)).unwrap_or_else(|_| self.audience.url.clone());
        let origin = resource.origin().ascii_serialization();
        format!("{origin}{METADATA_PATH}{}", resource.path())
    }

    /// What stands before `/mcp` where the gateway is not at the root of its host.
    pub fn prefix(&self) -> &str {
        without_mcp(self.audience.url.path())
    }

    fn root(&self) -> &str {
        without_mcp(&self.audience.text)
    }

    /// The first that is for tokens with these scopes, and for that server, if it is about one.
    pub fn grant(&self, scopes: &[String], server: Option<&str>) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.fits(scopes) && grant.may_use(server))
    }

    /// Which scope does for that server, or for all: of the last grant, since the widest are first. `None` where none does, or
    /// none is needed.
    pub fn least_scope(&self, server: Option<&str>) -> Option<&str> {
        let least = self.grants.iter().rfind(|grant| grant.may_use(server))?;
        least.scope.as_ref().map(Scope::as_str)
    }
}

impl Grant {
    /// Whether it is for tokens with these scopes.
    pub fn fits(&self, scopes: &[String]) -> bool {
        let has = |scope: &Scope| scopes.iter().any(|own| own == scope.as_str());
        self.scope.as_ref().is_none_or(has)
    }

    fn may_use(&self, server: Option<&str>) -> bool {
        server.is_none_or(|server| self.rights.may_use(server))
    }

    /// For the same tokens, and the same but for how often.
    pub fn is(&self, other: &Self) -> bool {
        self.scope == other.scope && self.rights.without_limit() == other.rights.without_limit()
    }
}

fn without_mcp(address: &str) -> &str {
    address.strip_suffix(MCP).unwrap_or(address)
}

/// Each is for tokens that none before it is for.
fn read_grants(sections: &[Section<'_>]) -> Result<Vec<Grant>, ConfigError> {
    let mut lines = BTreeMap::new();
    let mut grants: Vec<Grant> = Vec::new();
    for section in sections {
        let scope: Scope = section.required("scope", section.parsed("scope")?)?;
        let scope = Some(scope).filter(|scope| scope.as_str() != EVERY);
        if grants.last().is_some_and(|grant| grant.scope.is_none()) {
            return Err(section.fault("scope", Problem::AfterAll));
        }
        if let Some(scope) = &scope
            && let Some(first_line) = lines.insert(scope.clone(), section.line("scope"))
        {
            let scope = scope.clone();
            return Err(section.fault("scope", Problem::DuplicateScope { scope, first_line }));
        }
        grants.push(Grant { scope, rights: Rights::read_spelled_out(section)? });
    }
    Ok(grants)
}

impl Scope {
    /// Most characters of one.
    const MAX: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let is_good = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        match !text.is_empty() && text.len() <= Self::MAX && text.chars().all(is_good) {
            true => Ok(Self(text.to_owned())),
            false => Err(ScopeError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecureUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether it is without TLS.
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    fn without_query(self) -> Result<Self, SecureUrlError> {
        match self.url.query() {
            None => Ok(self),
            Some(_) => Err(SecureUrlError::Query(self.text)),
        }
    }

    fn ending_in_mcp(self) -> Result<Self, SecureUrlError> {
        match self.text.ends_with(MCP) && self.url.path().ends_with(MCP) {
            true => Ok(self),
            false => Err(SecureUrlError::NotMcp(self.text)),
        }
    }
}

impl FromStr for SecureUrl {
    type Err = SecureUrlError;

    fn from_str(text: &str) -> Result<Self, SecureUrlError> {
        let shown = || text.chars().take(200).collect::<String>();
        let malformed = |why: String| SecureUrlError::Malformed { text: shown(), why };
        let url = Url::parse(text).map_err(|error| malformed(error.to_string()))?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(malformed("it has spaces or control characters".to_owned()));
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(SecureUrlError::Open(shown()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(SecureUrlError::Extra(shown()));
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

/// By number, or by the one name that is kept for it (RFC 6761).
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const ISSUER: &str = "issuer = \"https://login.example.com\"\n";
    const AUDIENCE: &str = "audience = \"https://tools.example.com/mcp\"\n";
    const ALL: &str = "[[gateway.oauth.grants]]\nscope = \"*\"\nservers = [\"*\"]\n";

    fn read(section: &str) -> Result<Oauth, String> {
        let text = format!("[gateway.oauth]\n{section}");
        let config = Config::parse(&text, "f").map_err(|error| error.to_string())?;
        Ok(config.gateway.oauth.expect("the section is there"))
    }

    fn fault(section: &str) -> String {
        read(section).expect_err(section)
    }

    #[test]
    fn grants_are_read_in_their_order_with_what_they_are_for() {
        let grants = "[[gateway.oauth.grants]]\nscope = \"tools:all\"\nrequests_per_minute = 9\nservers = [\"*\"]\n\
                      [[gateway.oauth.grants]]\nscope = \"*\"\ntools = [\"time__*\"]\nservers = [\"time\"]\n";
        let oauth = read(&format!("{ISSUER}{AUDIENCE}{grants}")).unwrap();
        assert_eq!(oauth.issuer.as_str(), "https://login.example.com");
        let [wide, rest] = &oauth.grants[..] else { panic!("{oauth:?}") };
        assert_eq!(wide.rights.requests_per_minute.unwrap().get(), 9);
        assert_eq!((wide.rights.servers.as_ref(), rest.scope.as_ref()), (None, None));
        assert_eq!(rest.rights.servers, Some(vec!["time".parse().unwrap()]));
        let scopes = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(wide.fits(&scopes(&["openid", "tools:all"])));
        assert!(!wide.fits(&scopes(&["tools", "tools:all2"])));
        assert!(rest.fits(&[]));
        assert_eq!(oauth.grant(&scopes(&["tools:all"]), Some("time")), Some(wide));
        assert_eq!(oauth.grant(&[], Some("time")), Some(rest));
        assert_eq!(oauth.grant(&[], Some("files")), None);
        assert_eq!(oauth.least_scope(Some("files")), Some("tools:all"));
        assert_eq!((oauth.least_scope(Some("time")), oauth.least_scope(None)), (None, None));
        let slower = Grant { rights: Rights::default(), ..wide.clone() };
        assert!(wide.is(&slower) && !wide.is(rest));
    }

    #[test]
    fn what_others_could_read_or_answer_for_is_refused() {
        let with = |issuer: &str| read(&format!("issuer = \"{issuer}\"\n{AUDIENCE}{ALL}"));
        for good in [
            "https://a.example/tenant/",
            "http://127.0.0.1:9",
            "http://[::1]",
            "http://localhost:8",
        ] {
            assert_eq!(with(good).unwrap().issuer.as_str(), good);
        }
        for (wrong, why) in [
            ("http://login.example.com", "must be https"),
            ("http://localhost.example.com", "must be https"),
            ("ftp://127.0.0.1", "must be https"),
            ("https://me@login.example.com", "user's name or a fragment"),
            ("https://login.example.com#a", "user's name or a fragment"),
            ("https://login.example.com?a=b", "has a query"),
            ("https://login.example.com/ a", "spaces"),
            ("login.example.com", "is no address"),
        ] {
            let told = with(wrong).unwrap_err();
            assert!(told.starts_with("f:2:10: ") && told.contains(why), "{told}");
        }
        let keys = "jwks_uri = \"http://login.example.com/keys\"\n";
        assert!(fault(&format!("{ISSUER}{AUDIENCE}{keys}{ALL}")).starts_with("f:4:12: "));
        let keys = "jwks_uri = \"https://login.example.com/keys?v=2\"\n";
        assert!(read(&format!("{ISSUER}{AUDIENCE}{keys}{ALL}")).is_ok());
    }

    #[test]
    fn what_is_missing_or_could_never_count_is_refused_where_it_stands() {
        assert_eq!(fault(&format!("{AUDIENCE}{ALL}")), "f:1:1: [gateway.oauth] has no \"issuer\"");
        assert_eq!(fault(&format!("{ISSUER}{ALL}")), "f:1:1: [gateway.oauth] has no \"audience\"");
        let none = "f:1:1: [gateway.oauth] has no \"grants\"";
        assert_eq!(fault(&format!("{ISSUER}{AUDIENCE}")), none);
        let unknown = fault(&format!("{ISSUER}{AUDIENCE}audiences = \"x\"\n{ALL}"));
        assert!(unknown.ends_with("did you mean \"audience\"?"), "{unknown}");
        let scope = "[[gateway.oauth.grants]]\nscope = \"a\"\nservers = [\"*\"]\n";
        let twice = fault(&format!("{ISSUER}{AUDIENCE}{scope}{scope}"));
        assert_eq!(twice, "f:8:9: scope a has a grant already, at line 5");
        let after = fault(&format!("{ISSUER}{AUDIENCE}{ALL}{scope}"));
        assert!(after.starts_with("f:8:9: ") && after.contains("never counts"), "{after}");
        let spaced =
            fault(&format!("{ISSUER}{AUDIENCE}[[gateway.oauth.grants]]\nscope = \"a b\"\n"));
        assert!(spaced.starts_with("f:5:9: scope \"a b\" is none"), "{spaced}");
        let server = fault(&format!("{ISSUER}{AUDIENCE}{ALL}server = [\"a\"]\n"));
        assert!(server.ends_with("did you mean \"servers\"?"), "{server}");
    }

    #[test]
    fn each_resource_has_the_address_by_which_clients_know_it() {
        let of =
            |audience: &str| read(&format!("{ISSUER}audience = \"{audience}\"\n{ALL}")).unwrap();
        let known = "/.well-known/oauth-protected-resource";
        let oauth = of("https://tools.example.com/mcp");
        assert_eq!(oauth.resource(None), "https://tools.example.com/mcp");
        assert_eq!(oauth.metadata(None), format!("https://tools.example.com{known}/mcp"));
        assert_eq!(oauth.resource(Some("a")), "https://tools.example.com/servers/a/mcp");
        let inner = format!("https://tools.example.com{known}/servers/a/mcp");
        assert_eq!((oauth.metadata(Some("a")), oauth.prefix()), (inner, ""));
        let oauth = of("https://example.com:8443/t/mcp");
        assert_eq!(oauth.metadata(None), format!("https://example.com:8443{known}/t/mcp"));
        assert_eq!(oauth.resource(Some("a")), "https://example.com:8443/t/servers/a/mcp");
        assert_eq!(oauth.prefix(), "/t");
        for wrong in [
            "https://tools.example.com/",
            "https://a.example/mcp/",
            "https:/mcp",
            "https://a.example/xmcp",
        ] {
            let told = fault(&format!("{ISSUER}audience = \"{wrong}\"\n{ALL}"));
            assert_eq!(
                told,
                format!(
                    "f:3:12: {wrong:?} does not end in /mcp, which those of single servers are made of"
                )
            );
        }
    }

    #[test]
    fn a_grant_that_is_cut_off_grants_nothing() {
        let whole = "[[gateway.oauth.grants]]\nscope = \"tools\"\ntools = [\"time__*\"]\nservers = [\"time\"]";
        for (at, _) in whole.match_indices('\n') {
            let cut = fault(&format!("{ISSUER}{AUDIENCE}{}", &whole[..at]));
            assert!(cut.starts_with("f:4:1: [[gateway.oauth.grants]] has no "), "{cut}");
        }
        assert!(read(&format!("{ISSUER}{AUDIENCE}{whole}")).is_ok());
        let none = read(&format!("{ISSUER}{AUDIENCE}{}", whole.replace("\"time\"", ""))).unwrap();
        assert_eq!(none.grants[0].rights.servers, Some(vec![]), "nothing is not everything");
    }
}
