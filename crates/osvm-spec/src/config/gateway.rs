//! `[gateway]`: who may use the gateway beside those who have its own token, and for what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::oauth::OAUTH_KEYS;
use super::section::Section;
use super::{ConfigError, Oauth, Problem, Rights};
use crate::{NameError, ServerName};

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gateway {
    /// In the order of the file; no two have the same name or digest.
    pub tokens: Vec<Token>,
    /// Further clients show tokens of an authorization server.
    pub oauth: Option<Oauth>,
}

/// `[[gateway.tokens]]`: a bearer token and what its holder may do. The token itself is written down nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    pub name: TokenName,
    #[serde(flatten)]
    pub rights: Rights,
    /// Written last: an entry that is cut off has none, and is refused, whatever it lacks.
    pub sha256: TokenDigest,
}

/// What people and records call a token: spelled as a server's name, but not `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

/// Why a text names no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenNameError {
    #[error("token name {0:?} is none: 1 to {max} letters, digits, '-', '_' and '.' are, of which the first is a letter or digit", max = ServerName::MAX)]
    Spelling(String),
    #[error("token name {name:?} is that of the gateway's own token", name = TokenName::DEFAULT)]
    Taken,
}

/// SHA-256 of a token as clients show it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenDigest([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no SHA-256 of 64 hexadecimal digits")]
pub struct TokenDigestError(String);

pub(super) const GATEWAY_KEYS: &[&str] = &["tokens", "oauth"];
pub(super) const TOKEN_KEYS: &[&str] =
    &["name", "sha256", "servers", "tools", "requests_per_minute"];

impl Gateway {
    pub fn token(&self, name: &TokenName) -> Option<&Token> {
        self.tokens.iter().find(|token| token.name == *name)
    }

    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let (mut names, mut digests) = (BTreeMap::new(), BTreeMap::new());
        let mut once = |inner: &Section<'_>| {
            let token = token(inner)?;
            let of_name = names.insert(token.name.clone(), inner.line("name"));
            let of_digest = digests.insert(token.sha256, inner.line("sha256"));
            match (of_name, of_digest) {
                (Some(first_line), _) => {
                    let name = token.name;
                    Err(inner.fault("name", Problem::DuplicateToken { name, first_line }))
                }
                (_, Some(line)) => Err(inner.fault("sha256", Problem::SameToken(line))),
                (None, None) => Ok(token),
            }
        };
        let tokens = section.tables("tokens", "[[gateway.tokens]]", TOKEN_KEYS)?;
        let tokens = tokens.iter().map(&mut once).collect::<Result<_, _>>()?;
        let oauth = section.table("oauth", "[gateway.oauth]", OAUTH_KEYS)?;
        Ok(Self { tokens, oauth: oauth.map(|section| Oauth::read(&section)).transpose()? })
    }
}

fn token(section: &Section<'_>) -> Result<Token, ConfigError> {
    Ok(Token {
        name: section.required("name", section.parsed("name")?)?,
        sha256: section.required("sha256", section.parsed("sha256")?)?,
        rights: Rights::read(section)?,
    })
}

impl TokenName {
    /// The token that may do everything, which is in no configuration.
    pub const DEFAULT: &str = "default";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let name: Result<ServerName, NameError> = text.parse();
        match name {
            Err(_) => Err(TokenNameError::Spelling(text.chars().take(80).collect())),
            Ok(_) if text == Self::DEFAULT => Err(TokenNameError::Taken),
            Ok(name) => Ok(Self(name.into())),
        }
    }
}

impl TryFrom<String> for TokenName {
    type Error = TokenNameError;

    fn try_from(text: String) -> Result<Self, TokenNameError> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TokenDigest {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl FromStr for TokenDigest {
    type Err = TokenDigestError;

    fn from_str(text: &str) -> Result<Self, TokenDigestError> {
        let error = || TokenDigestError(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..][..2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for TokenDigest {
    type Error = TokenDigestError;

    fn try_from(text: String) -> Result<Self, TokenDigestError> {
        text.parse()
    }
}

impl From<TokenDigest> for String {
    fn from(digest: TokenDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn tokens(text: &str) -> Result<Vec<Token>, String> {
        let config = Config::parse(text, "f").map_err(|error| error.to_string())?;
        Ok(config.gateway.tokens)
    }

    fn entry(name: &str, secret: &str, more: &str) -> String {
        let digest = TokenDigest::of(secret);
        format!("[[gateway.tokens]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{more}\n")
    }

    #[test]
    fn a_token_is_read_with_what_its_holder_may_do() {
        let more = "servers = [\"time\"]\ntools = [\"time__*\"]\nrequests_per_minute = 600";
        let read = tokens(&(entry("ci", "a", more) + &entry("all", "b", ""))).unwrap();
        assert_eq!(read[0].rights.servers, Some(vec!["time".parse().unwrap()]));
        assert_eq!(read[0].rights.tools, Some(vec!["time__*".parse().unwrap()]));
        assert_eq!(read[0].rights.requests_per_minute.unwrap().get(), 600);
        assert_eq!(read[0].sha256, TokenDigest::of("a"));
        assert_eq!(read[1].rights, Rights::default());
        // Nothing is not everything.
        let none = &tokens(&entry("no", "a", "servers = []")).unwrap()[0].rights;
        assert_eq!(none.servers, Some(vec![]));
    }

    #[test]
    fn what_could_be_another_token_is_refused_where_it_stands() {
        let fault = |text: &str| tokens(text).unwrap_err();
        let told = "f:2:8: token name \"default\" is that of the gateway's own token";
        assert_eq!(fault(&entry("default", "a", "")), told);
        assert!(fault(&entry("../x", "a", "")).starts_with("f:2:8: token name \"../x\" is none"));
        let twice = entry("ci", "a", "") + &entry("ci", "b", "");
        assert_eq!(fault(&twice), "f:6:8: token ci is already defined at line 2");
        let same = entry("ci", "a", "") + &entry("other", "a", "");
        assert_eq!(fault(&same), "f:7:10: this is the digest of the token at line 3");
        let short = "[[gateway.tokens]]\nname = \"ci\"\nsha256 = \"abc\"";
        assert_eq!(fault(short), "f:3:10: \"abc\" is no SHA-256 of 64 hexadecimal digits");
        let none = "[[gateway.tokens]]\nname = \"ci\"";
        assert_eq!(fault(none), "f:1:1: [[gateway.tokens]] has no \"sha256\"");
        let wrong = fault(&entry("ci", "a", "server = [\"time\"]"));
        assert!(wrong.contains("did you mean \"servers\"?"), "{wrong}");
        let zero = fault(&entry("ci", "a", "requests_per_minute = 0"));
        assert!(zero.ends_with("requests_per_minute of 0 is outside 1 to 1000000"), "{zero}");
    }

    #[test]
    fn a_digest_is_that_of_the_text_that_clients_show() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenDigest::of("abc").to_string(), abc);
        assert_eq!(abc.to_uppercase().parse(), Ok(TokenDigest::of("abc")));
        assert!(format!("+{}", &abc[1..]).parse::<TokenDigest>().is_err());
    }
}
