//! Who may use the gateway: by token, and from which pages of a browser.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use osvm_spec::config::TokenDigest;

use super::sender::{Sender, Tokens};

/// Whom the gateway serves.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The gateway's own bearer token, which may do everything; `None` for everybody who reaches the gateway. Without
    /// it no other one is asked for.
    pub token: Option<String>,
    /// Further ones.
    pub tokens: Option<Arc<dyn Tokens>>,
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
}

impl Access {
    /// Whether a request may come from there, whoever sends it.
    pub(super) fn place(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let denied = |why: String| Err(Denied { status: StatusCode::FORBIDDEN, why });
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

    /// Tokens are told apart by their digests, since comparing texts takes the longer the more of them is right.
    pub(super) fn sender(&self, headers: &HeaderMap) -> Result<Sender, Denied> {
        let Some(own) = &self.token else { return Ok(Sender::Anybody) };
        let shown = bearer(headers).map(TokenDigest::of);
        let Some(shown) = shown else { return Err(unknown()) };
        match shown == TokenDigest::of(own) {
            true => Ok(Sender::Own),
            false => self.holder(&shown),
        }
    }

    fn holder(&self, digest: &TokenDigest) -> Result<Sender, Denied> {
        let found = self.tokens.as_ref().map(|tokens| tokens.find(digest)).transpose();
        match found {
            Ok(found) => found.flatten().map(Sender::Holder).ok_or_else(unknown),
            Err(why) => {
                tracing::warn!(why, "tokens can't be told apart");
                // Whoever asks may be anybody, who need not know why.
                let why = "tokens can't be looked up at the moment".to_owned();
                Err(Denied { status: StatusCode::SERVICE_UNAVAILABLE, why })
            }
        }
    }

    /// Whether what it has begun goes on.
    pub(super) fn still_knows(&self, sender: &Sender) -> bool {
        let Some(token) = sender.token() else { return true };
        let found = self.tokens.as_ref().map(|tokens| tokens.find(&token.sha256)).transpose();
        // Of one that can't be looked up now, nothing is served, and nothing is ended.
        found.map_or(true, |found| {
            found.flatten().is_some_and(|token| sender.is(&Sender::Holder(token)))
        })
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
    Denied { status: StatusCode::UNAUTHORIZED, why }
}

#[cfg(test)]
mod tests {
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
        let checked = access.place(&headers).and_then(|()| access.sender(&headers));
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
