//! Names of images in registries, as `docker pull` takes them: `[HOST/]PATH[:TAG][@DIGEST]`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Digest;

/// An image in a registry. Without a host it is one of Docker's, without a tag the latest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    /// One of both is there.
    tag: Option<String>,
    digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no image reference: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

const DOCKER: &str = "docker.io";
/// What answers for it.
const DOCKER_REGISTRY: &str = "registry-1.docker.io";
const LATEST: &str = "latest";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// Host and port of the registry, as it is named.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest of the image itself, if it is asked for by that.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The host that answers.
    pub(super) fn registry(&self) -> &str {
        if self.host == DOCKER { DOCKER_REGISTRY } else { &self.host }
    }

    /// A tag or a digest: what the image's manifest is asked for by.
    pub(super) fn version(&self) -> String {
        let tag = || self.tag.clone().unwrap_or_default();
        self.digest.as_ref().map_or_else(tag, Digest::to_string)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| "its digest is none")?)),
            None => (text, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DOCKER, name),
        };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (path, None),
        };
        if !is_host_name(host) {
            return Err("its host is none");
        }
        if path.len() > MAX_PATH || !path.split('/').all(is_component) {
            return Err("its name has other characters than small letters, digits and . _ - /");
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err("its tag is none");
        }
        let tag = tag.or_else(|| digest.is_none().then(|| LATEST.to_owned()));
        let host = if host == "index.docker.io" { DOCKER } else { host };
        let is_official = host == DOCKER && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        Ok(Self { host: host.to_ascii_lowercase(), repository, tag, digest })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text).map_err(|why| ReferenceError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// Only what can't be the first part of a path.
fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

fn is_host_name(text: &str) -> bool {
    let starts = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
    starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

fn is_component(text: &str) -> bool {
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(small) && text.bytes().last().is_some_and(small);
    ends && text.bytes().all(|byte| small(byte) || b"._-".contains(&byte))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = text.bytes().next().is_some_and(word);
    starts && text.len() <= MAX_TAG && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_dockers_and_the_latest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("mcp/time", "docker.io/mcp/time:latest"),
            ("docker.io/mcp/time:1.0", "docker.io/mcp/time:1.0"),
            ("index.docker.io/mcp/time", "docker.io/mcp/time:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("ghcr.io/a/b/c_d:v1", "ghcr.io/a/b/c_d:v1"),
            (&format!("a@{digest}"), &format!("docker.io/library/a@{digest}")),
            (&format!("a:b@{digest}"), &format!("docker.io/library/a:b@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(whole.parse::<Reference>().unwrap(), text.parse().unwrap());
        }
        let pinned: Reference = format!("a:b@{digest}").parse().unwrap();
        assert_eq!(pinned.version(), digest);
        assert_eq!("alpine".parse::<Reference>().unwrap().registry(), "registry-1.docker.io");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "A",
            "a b",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a:",
            "a:-x",
            "a@sha256:1",
            "x.y/",
            "a?b=c/d",
            "u:p@x.y/a",
            "-a",
            "x.y/a#b",
            "x.y\\z/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
