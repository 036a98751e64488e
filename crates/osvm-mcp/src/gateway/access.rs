//! Who may use the gateway: by token, and from which pages of a browser.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use osvm_spec::config::{Oauth, Token, TokenDigest};

use super::oauth::{self, Subject, Unproven, Verifier};
use super::sender::{Sender, Tokens};

/// Whom the gateway serves.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The gateway's own bearer token, which may do everything; `None` for everybody who reaches the gateway. Without
    /// it no other one is asked for.
    pub token: Option<String>,
    /// Further ones.
    pub tokens: Option<Arc<dyn Tokens>>,
    /// What tells whether others are of the authorization server that `tokens` names. Without it none is.
    pub verifier: Option<Arc<dyn Verifier>>,
    /// Names that requests may be addressed to, beside addresses and `localhost`. A name that is not known may be a
    /// page's own, which it has had point here (DNS rebinding).
    pub hosts: Vec<String>,
    /// Origins of pages that may send requests, as in `https://app.example.com`, beside those of this host.
    pub origins: Vec<String>,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) why: String,
    /// What is said of how to be let in.
    pub(super) challenge: Option<String>,
}

impl Access {
    /// Whether a request may come from there, whoever sends it.
    pub(super) fn place(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let denied =
            |why: String| Err(Denied { status: StatusCode::FORBIDDEN, why, challenge: None });
        let host = one(headers, header::HOST.as_str());
        if !host.is_some_and(|host| self.knows_host(host)) {
            return denied(format!("host {:?} is not served here", host.unwrap_or_default()));
        }
        match one(headers, header::ORIGIN.as_str()) {
            None if headers.contains_key(header::ORIGIN) => {
                denied("the origin can't be read".to_owned())
            }
            Some(origin) if !self.knows_origin(origin) => {
                denied(format!("pages of {origin:?} are not served here"))
            }
            _ => Ok(()),
        }
    }

    /// Who sends a request to that server, or to all. Tokens are told apart by their digests, since comparing texts takes
    /// the longer the more of them is right.
    pub(super) async fn sender(
        &self,
        headers: &HeaderMap,
        server: Option<&str>,
    ) -> Result<Sender, Denied> {
        let Some(own) = &self.token else { return Ok(Sender::Anybody) };
        let Some(shown) = bearer(headers) else {
            let oauth = self.oauth().ok().flatten();
            return Err(oauth.map_or_else(unknown, |oauth| oauth::unproven(&oauth, server, None)));
        };
        let digest = TokenDigest::of(shown);
        if digest == TokenDigest::of(own) {
            return Ok(Sender::Own);
        }
        if let Some(token) = self.find(&digest).map_err(|why| unreadable(&why))? {
            return Ok(Sender::Holder(token));
        }
        match self.oauth().map_err(|why| unreadable(&why))? {
            Some(oauth) => self.subject(shown, &oauth, server).await.map(Sender::Subject),
            None => Err(unknown()),
        }
    }

    /// Of a token that is none of the gateway's.
    async fn subject(
        &self,
        token: &str,
        oauth: &Oauth,
        server: Option<&str>,
    ) -> Result<Subject, Denied> {
        let refused = |why: &str| oauth::unproven(oauth, server, Some(why));
        let verifier = self.verifier.as_ref().filter(|_| oauth::is_signed(token));
        let verifier = verifier.ok_or_else(|| refused("the token is not known here"))?;
        let audiences = oauth::audiences(oauth, server);
        match verifier.verify(token, oauth, &audiences).await {
            Ok(proven) => Subject::of(proven, oauth, server),
            Err(Unproven::Invalid(why)) => Err(refused(&why)),
            Err(Unproven::Unknown(why)) => {
                // Whoever asks its issuer says so aloud, once for all who wait for that.
                tracing::debug!("failed to {why}");
                Err(later())
            }
        }
    }

    fn find(&self, digest: &TokenDigest) -> Result<Option<Token>, String> {
        self.tokens.as_ref().map_or(Ok(None), |tokens| tokens.find(digest))
    }

    fn oauth(&self) -> Result<Option<Oauth>, String> {
        self.tokens.as_ref().map_or(Ok(None), |tokens| tokens.oauth())
    }

    /// What the resource at a path of metadata says of itself.
    pub(super) fn metadata(&self, path: &str) -> Result<Option<Response>, Denied> {
        if self.token.is_none() {
            return Ok(None);
        }
        let oauth = self.oauth().map_err(|why| unreadable(&why))?;
        Ok(oauth.and_then(|oauth| oauth::metadata(&oauth, path)))
    }

    /// Whether what it has begun goes on. Of one that can't be looked up now, nothing is served, and nothing is ended.
    pub(super) fn still_knows(&self, sender: &Sender) -> bool {
        match sender {
            Sender::Anybody | Sender::Own => true,
            Sender::Holder(token) => self
                .find(&token.sha256)
                .map_or(true, |found| found.is_some_and(|token| sender.is(&Sender::Holder(token)))),
            Sender::Subject(subject) => self
                .oauth()
                .map_or(true, |found| found.is_some_and(|oauth| subject.is_known(&oauth))),
        }
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = without_port(host);
        is_own(name) || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn knows_origin(&self, origin: &str) -> bool {
        let host = origin.split_once("://").map_or("", |(_, host)| without_port(host));
        let loopback = address(host).is_some_and(|address| address.is_loopback());
        loopback
            || host.eq_ignore_ascii_case("localhost")
            || self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }
}

/// A name that no stranger can point elsewhere.
fn is_own(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || address(name).is_some()
}

fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // Of an IPv6 address the brackets end first.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The only value of a header.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = one(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unknown() -> Denied {
    let why = "a bearer token is needed".to_owned();
    let challenge = Some("Bearer".to_owned());
    Denied { status: StatusCode::UNAUTHORIZED, why, challenge }
}

fn unreadable(why: &str) -> Denied {
    tracing::warn!(why, "tokens can't be told apart");
    later()
}

/// Whoever asks may be anybody, who need not know why.
fn later() -> Denied {
    let why = "tokens can't be looked up at the moment".to_owned();
    Denied { status: StatusCode::SERVICE_UNAVAILABLE, why, challenge: None }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn check(access: &Access, pairs: &[(&'static str, &str)]) -> u16 {
        let headers = headers(pairs);
        let checked = access.place(&headers).and_then(|()| {
            let sender = access.sender(&headers, None).now_or_never();
            sender.expect("nothing is asked of an authorization server")
        });
        checked.map_or_else(|denied| denied.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_token_must_be_shown_whole_and_once() {
        let access = Access { token: Some("secret".to_owned()), ..Access::default() };
        let ask = |pairs: &[(&'static str, &str)]| {
            check(&access, &[&[("host", "localhost:1")], pairs].concat())
        };
        assert_eq!(ask(&[("authorization", "Bearer secret")]), 200);
        assert_eq!(ask(&[("authorization", "bearer  secret")]), 200);
        for wrong in ["Bearer secre", "Bearer secrets", "Basic secret", "secret", "Bearer"] {
            assert_eq!(ask(&[("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(ask(&[]), 401);
        let twice = [("authorization", "Bearer secret"), ("authorization", "Bearer other")];
        assert_eq!(ask(&twice), 401);
    }

    #[test]
    fn names_that_a_stranger_may_have_pointed_here_are_not_served() {
        let access = Access { hosts: vec!["tools.example".to_owned()], ..Access::default() };
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "192.0.2.1",
            "tools.example:1",
        ] {
            assert_eq!(check(&access, &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", ""] {
            assert_eq!(check(&access, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(check(&access, &[]), 403);
        assert_eq!(check(&access, &[("host", "localhost"), ("host", "evil.example")]), 403);
    }

    #[test]
    fn pages_of_other_hosts_are_not_served() {
        let access =
            Access { origins: vec!["https://app.example".to_owned()], ..Access::default() };
        let ask = |origin| check(&access, &[("host", "localhost"), ("origin", origin)]);
        for origin in
            ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8", "https://app.example"]
        {
            assert_eq!(ask(origin), 200, "{origin}");
        }
        for origin in ["https://evil.example", "http://app.example", "null", "http://192.0.2.1", ""]
        {
            assert_eq!(ask(origin), 403, "{origin}");
        }
    }
}
