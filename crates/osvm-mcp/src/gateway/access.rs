//! Who may use the gateway: by token, and from which pages of a browser.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

/// Whom the gateway serves.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The bearer token that each request must show; `None` for everybody who reaches the gateway.
    pub token: Option<String>,
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

    pub(super) fn sender(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match &self.token {
            Some(token) if !bearer(headers).is_some_and(|shown| same(shown, token)) => {
                let why = "a bearer token is needed".to_owned();
                Err(Denied { status: StatusCode::UNAUTHORIZED, why })
            }
            _ => Ok(()),
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

/// Compares digests, since comparing texts takes the longer the more of them is right.
fn same(shown: &str, token: &str) -> bool {
    Sha256::digest(shown) == Sha256::digest(token)
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
        checked.map_or_else(|denied| denied.status.as_u16(), |()| 200)
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
