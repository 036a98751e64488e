//! How a registry is told who asks: not at all, by user and password, or by a token that another
//! service gives for them ("Token Authentication Specification" of the distribution project).

use serde::Deserialize;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::credentials::Credentials;
use super::{RegistryError, checked, getting};
use crate::oci::Reference;

/// What is known of who asks, and what the registry took last.
pub(super) struct Authorization {
    known: Option<Credentials>,
    value: Option<String>,
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

const MAX_TOKEN: u64 = 64 << 10;

impl Authorization {
    pub(super) fn new(known: Option<Credentials>) -> Self {
        Self { known, value: None }
    }

    /// For the header.
    pub(super) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Gets what the refusal of a request asks for.
    pub(super) fn gain(
        &mut self,
        agent: &Agent,
        refusal: &Response<Body>,
        url: &str,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let challenges = refusal.headers().get_all(header::WWW_AUTHENTICATE);
        let mut challenges =
            challenges.iter().filter_map(|value| Challenge::parse(value.to_str().ok()?));
        let unknown = RegistryError::Answer {
            url: url.to_owned(),
            what: "the registry asks for a kind of credentials that is not known",
        };
        self.value = Some(match challenges.next().ok_or(unknown)? {
            Challenge::Basic => match &self.known {
                Some(known) => known.basic(),
                None => return Err(self.denied(url, reference)),
            },
            Challenge::Bearer { realm, service, scope } => {
                let pull = || format!("repository:{}:pull", reference.repository());
                let scope = scope.unwrap_or_else(pull);
                self.token(agent, &realm, service.as_deref(), &scope, reference)?
            }
        });
        Ok(())
    }

    pub(super) fn denied(&self, url: &str, reference: &Reference) -> RegistryError {
        let (url, host) = (url.to_owned(), reference.host().to_owned());
        RegistryError::Denied { url, host, known: self.known.is_some() }
    }

    fn token(
        &self,
        agent: &Agent,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        reference: &Reference,
    ) -> Result<String, RegistryError> {
        let mut request = agent.get(realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(known) = &self.known {
            request = request.header(header::AUTHORIZATION, known.basic());
        }
        let answer = request.call().map_err(getting(realm))?;
        if matches!(answer.status().as_u16(), 401 | 403) {
            return Err(self.denied(realm, reference));
        }
        let mut body = checked(realm, answer)?.into_body();
        let bytes = body.with_config().limit(MAX_TOKEN).read_to_vec().map_err(getting(realm))?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let none = || RegistryError::Answer { url: realm.to_owned(), what: "it is no token" };
        Ok(format!("Bearer {}", token.ok_or_else(none)?.token))
    }
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |wanted: &str| {
            let found = values(rest).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_owned())
        };
        Some(Self::Bearer {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
        })
    }
}

/// `name="value",name="value"`; the values may have commas.
fn values(mut rest: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        let (name, after) = rest.trim_start_matches([',', ' ']).split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        rest = after;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let header =
            r#"Bearer realm="https://a.b/token",service="a.b",scope="repository:x:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://a.b/token".to_owned(),
            service: Some("a.b".to_owned()),
            scope: Some("repository:x:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(bearer));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for wrong in ["", "Bearer", "Bearer realm=\"x", "Digest realm=\"x\""] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
    }
}
