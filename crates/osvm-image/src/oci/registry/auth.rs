//! How a registry is told who asks: not at all, by user and password, or by a token that another
//! service gives for them ("Token Authentication Specification" of the distribution project).

use serde::Deserialize;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::credentials::{self, Credentials};
use super::{Access, RegistryError, checked, getting};
use crate::oci::Reference;

/// Who asks, and what the registry took last.
pub(super) struct Authorization<'a> {
    reference: &'a Reference,
    access: &'a Access,
    /// Looked up once the registry asks: it may take a helper.
    known: Option<Credentials>,
    was_looked_up: bool,
    value: Option<String>,
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// It has one name by the first version of the specification and another by OAuth 2; Docker's own service sends both.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

const MAX_TOKEN: u64 = 64 << 10;
/// How services of tokens are told which program asks.
const CLIENT: &str = "osvm";

impl<'a> Authorization<'a> {
    pub(super) fn new(reference: &'a Reference, access: &'a Access) -> Self {
        Self { reference, access, known: None, was_looked_up: false, value: None }
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
    ) -> Result<(), RegistryError> {
        let challenges = refusal.headers().get_all(header::WWW_AUTHENTICATE);
        let mut challenges =
            challenges.iter().filter_map(|value| Challenge::parse(value.to_str().ok()?));
        let unknown =
            unusable(url, "the registry asks for a kind of credentials that is not known");
        let challenge = challenges.next().ok_or(unknown)?;
        self.look_up()?;
        self.value = Some(match challenge {
            Challenge::Basic => self.basic(url)?,
            Challenge::Bearer { realm, service, scope } => {
                let pull = || format!("repository:{}:pull", self.reference.repository());
                let scope = scope.unwrap_or_else(pull);
                format!("Bearer {}", self.token(agent, &realm, service.as_deref(), &scope)?)
            }
        });
        Ok(())
    }

    pub(super) fn denied(&self, url: &str) -> RegistryError {
        let (url, host) = (url.to_owned(), self.reference.host().to_owned());
        RegistryError::Denied { url, host, known: self.known.is_some() }
    }

    fn look_up(&mut self) -> Result<(), RegistryError> {
        if !self.was_looked_up {
            self.known = credentials::find(self.access, self.reference)?;
            self.was_looked_up = true;
        }
        Ok(())
    }

    fn basic(&self, url: &str) -> Result<String, RegistryError> {
        let known = self.known.as_ref().ok_or_else(|| self.denied(url))?;
        let what = "the registry asks for a password, and what is known is a token";
        known.basic().ok_or_else(|| unusable(url, what))
    }

    fn token(
        &self,
        agent: &Agent,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<String, RegistryError> {
        let answer = match &self.known {
            Some(Credentials::Token(token)) => renewed(agent, realm, service, scope, token),
            known => {
                let query = service.map(|service| ("service", service));
                let request = agent.get(realm).query_pairs([("scope", scope)]).query_pairs(query);
                match known.as_ref().and_then(Credentials::basic) {
                    Some(basic) => request.header(header::AUTHORIZATION, basic),
                    None => request,
                }
                .call()
            }
        };
        let answer = answer.map_err(getting(realm))?;
        if matches!(answer.status().as_u16(), 401 | 403) {
            return Err(self.denied(realm));
        }
        let mut body = checked(realm, answer)?.into_body();
        let bytes = body.with_config().limit(MAX_TOKEN).read_to_vec().map_err(getting(realm))?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token.ok_or_else(|| unusable(realm, "it is no token"))
    }
}

/// By an identity token, which is one of OAuth 2 to renew others with.
fn renewed(
    agent: &Agent,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    token: &str,
) -> Result<Response<Body>, ureq::Error> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT),
        ("scope", scope),
        ("refresh_token", token),
    ];
    let service = service.map(|service| ("service", service));
    agent.post(realm).send_form(form.into_iter().chain(service))
}

fn unusable(url: &str, what: &'static str) -> RegistryError {
    RegistryError::Answer { url: url.to_owned(), what }
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
