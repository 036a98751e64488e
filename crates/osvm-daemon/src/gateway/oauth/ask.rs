//! How an issuer is asked for its keys: over TLS or on the loopback, without going where it redirects, for a short time.

use std::time::{Duration, Instant};

use osvm_image::oci::Access as Ways;
use osvm_spec::config::{Oauth, SecureUrl};
use serde::Deserialize;
use ureq::Agent;
use ureq::http::header;
use url::Url;

use super::keys::Keys;

/// All requests together.
const WITHIN: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const LONGEST: u64 = 1 << 20;

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    issuer: SecureUrl,
    jwks_uri: Option<SecureUrl>,
}

/// What an authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Asks, and has a deadline for it.
struct Asking<'a> {
    ways: &'a Ways,
    until: Instant,
}

impl Source {
    pub(super) fn of(oauth: &Oauth) -> Self {
        Self { issuer: oauth.issuer.clone(), jwks_uri: oauth.jwks_uri.clone() }
    }

    /// Blocks for as long as that takes. An error completes "failed to".
    pub(super) fn keys(&self, ways: &Ways) -> Result<Keys, String> {
        let asking = Asking { ways, until: Instant::now() + WITHIN };
        let place = match &self.jwks_uri {
            Some(place) => place.clone(),
            None => self.place(&asking)?,
        };
        let of = |why| format!("get the keys at {}: {why}", place.as_str());
        let text = asking.get(place.url()).map_err(of)?;
        let text = text.ok_or_else(|| of("there are none".to_owned()))?;
        Keys::parse(&text).map_err(of)
    }

    /// As the issuer's metadata says it, at the first of its places that has any of use. What is wrong with one may be right
    /// with another: each says who the issuer is.
    fn place(&self, asking: &Asking<'_>) -> Result<SecureUrl, String> {
        let mut faults = Vec::new();
        for at in places(self.issuer.url()) {
            match self.told_at(&at, asking) {
                Ok(place) => return Ok(place),
                Err(why) => faults.push(format!("at {at} {why}")),
            }
        }
        let issuer = self.issuer.as_str();
        Err(format!("get the metadata of issuer {issuer}: {}", faults.join("; ")))
    }

    fn told_at(&self, at: &Url, asking: &Asking<'_>) -> Result<SecureUrl, String> {
        let text = asking.get(at)?.ok_or("there is none")?;
        let found: Metadata = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if found.issuer != self.issuer.as_str() {
            return Err(format!("it is that of {:?}", found.issuer));
        }
        let place: SecureUrl = found.jwks_uri.parse().map_err(|why| format!("jwks_uri {why}"))?;
        match place.is_plain() && !self.issuer.is_plain() {
            true => Err(format!("jwks_uri {:?} is not https", place.as_str())),
            false => Ok(place),
        }
    }
}

/// Where metadata may be, in the order in which clients of MCP look, too.
fn places(issuer: &Url) -> Vec<Url> {
    const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";
    const OPENID: &str = "/.well-known/openid-configuration";
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![
        format!("{AUTHORIZATION_SERVER}{path}"),
        format!("{OPENID}{path}"),
        format!("{path}{OPENID}"),
    ];
    paths.dedup();
    let at = |path: &String| {
        let mut url = issuer.clone();
        url.set_path(path);
        url
    };
    paths.iter().map(at).collect()
}

impl Asking<'_> {
    /// `None` where there is nothing.
    fn get(&self, url: &Url) -> Result<Option<Vec<u8>>, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("the issuer took longer than {} s", WITHIN.as_secs()));
        }
        let host = url.host_str().unwrap_or_default();
        let agent: Agent = self
            .ways
            .asking(host, url.scheme() == "http")
            .map_err(|error| error.to_string())?
            .max_redirects(0)
            .timeout_global(Some(left))
            .build()
            .into();
        let request = agent.get(url.as_str()).header(header::ACCEPT, "application/json");
        let mut answer = request.call().map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => {}
            400..500 => return Ok(None),
            status @ 300..400 => {
                return Err(format!("the answer was {status}; redirects are not followed"));
            }
            status => return Err(format!("the answer was {status}")),
        }
        let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec();
        body.map(Some).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_specifications_have_it() {
        let of = |issuer: &str| {
            let places = places(&issuer.parse().unwrap());
            places.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let plain = [
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ];
        assert_eq!(of("https://a.example"), plain);
        assert_eq!(of("https://a.example/"), plain);
        let tenant = [
            "https://a.example:8443/.well-known/oauth-authorization-server/t/1",
            "https://a.example:8443/.well-known/openid-configuration/t/1",
            "https://a.example:8443/t/1/.well-known/openid-configuration",
        ];
        assert_eq!(of("https://a.example:8443/t/1"), tenant);
    }
}
