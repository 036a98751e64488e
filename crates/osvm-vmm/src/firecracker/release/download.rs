//! One file over HTTP, bounded in size and time, and never over an open road but loopback.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body};

use super::ReleaseError;

/// Until the server is reached, until it answers, until it has sent everything.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const BODY_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Release servers hand out files by one or two.
const REDIRECTS: usize = 5;

/// Where releases are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    base: String,
    /// On this host's loopback: what is there may lead to other plain HTTP of the same loopback.
    is_local: bool,
}

/// What becomes of a file's bytes.
pub(super) struct Target<'a> {
    pub(super) limit: u64,
    pub(super) out: &'a mut dyn io::Write,
    pub(super) progress: &'a mut dyn FnMut(u64, Option<u64>),
}

impl Place {
    pub(super) fn new(base: &str) -> Result<Self, ReleaseError> {
        let is_local = is_loopback(base);
        if !is_local && !is_https(base) {
            return Err(ReleaseError::Place(base.to_owned()));
        }
        Ok(Self { base: base.trim_end_matches('/').to_owned(), is_local })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Writes what is at `url`, but never more than the limit; gives its SHA-256 sum.
    pub(super) fn download(&self, url: &str, target: Target<'_>) -> Result<String, ReleaseError> {
        let Target { limit, out, progress } = target;
        let body = self.get(url)?.into_body();
        let size = body.content_length();
        if size.is_some_and(|size| size > limit) {
            return Err(too_big(url, limit));
        }
        let mut body = body.into_reader();
        let (mut sum, mut done, mut block) = (Sha256::new(), 0, vec![0; 64 << 10]);
        loop {
            let count = body.read(&mut block).map_err(cut(url))?;
            if count == 0 {
                return Ok(hexadecimal(&sum.finalize()));
            }
            done += count as u64;
            if done > limit {
                return Err(too_big(url, limit));
            }
            sum.update(&block[..count]);
            out.write_all(&block[..count]).map_err(cut(url))?;
            progress(done, size);
        }
    }

    /// Follows redirects itself, since where each of them leads is looked at first.
    fn get(&self, url: &str) -> Result<Response<Body>, ReleaseError> {
        let agent = self.agent();
        let mut here = url.to_owned();
        for _ in 0..=REDIRECTS {
            let response = agent.get(&here).call().map_err(|error| refused(url, error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            here = self.next(url, &here, &response)?;
        }
        Err(ReleaseError::Astray { url: url.to_owned() })
    }

    /// No proxy: a library does not look for one in the environment.
    fn agent(&self) -> Agent {
        let config = Agent::config_builder()
            .https_only(!self.is_local)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .timeout_recv_response(Some(ANSWER_DEADLINE))
            .timeout_recv_body(Some(BODY_DEADLINE));
        config.build().into()
    }

    /// Where a redirect leads, if one may go there.
    fn next(
        &self,
        url: &str,
        here: &str,
        response: &Response<Body>,
    ) -> Result<String, ReleaseError> {
        let location = response.headers().get(header::LOCATION);
        let to = location
            .and_then(|to| resolve(here, to.to_str().ok()?))
            .ok_or_else(|| ReleaseError::Astray { url: url.to_owned() })?;
        match is_https(&to) || self.is_local && is_loopback(&to) {
            true => Ok(to),
            false => Err(ReleaseError::Redirect { url: url.to_owned(), to }),
        }
    }
}

/// A location as servers write it: a whole URL, or a path on the same server.
fn resolve(here: &str, location: &str) -> Option<String> {
    if !location.starts_with('/') || location.starts_with("//") {
        return Some(location.to_owned());
    }
    let here: Uri = here.parse().ok()?;
    Some(format!("{}://{}{location}", here.scheme_str()?, here.authority()?))
}

fn is_https(url: &str) -> bool {
    let uri = url.parse::<Uri>();
    uri.is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some())
}

/// By number: what a name stands for is for others to say.
fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    uri.scheme_str() == Some("http") && host.parse().is_ok_and(|host: IpAddr| host.is_loopback())
}

fn refused(url: &str, error: ureq::Error) -> ReleaseError {
    let url = url.to_owned();
    match error {
        ureq::Error::StatusCode(404) => ReleaseError::NoSuch { url },
        error => ReleaseError::Get { url, source: Box::new(error) },
    }
}

fn cut(url: &str) -> impl Fn(io::Error) -> ReleaseError {
    move |source| ReleaseError::Cut { url: url.to_owned(), source }
}

fn too_big(url: &str, limit: u64) -> ReleaseError {
    ReleaseError::TooBig { url: url.to_owned(), limit }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
