//! What `--image` may name. Nothing is looked up; the text alone decides, by these rules in this order:
//!
//! 1. `npm:` and `pypi:` begin a package, `sha256:` the digest of an image in the store.
//! 2. A path begins with `.`, `/` or `~`.
//! 3. The rest is of a registry: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`. Its first part is a host if it has a dot
//!    or a colon, or is `localhost`; without one it is Docker Hub's, as everywhere.
//!
//! A bare `dist` is therefore no folder, and a bare name that ends as a file would is refused rather than pulled.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::packages::{Ecosystem, Install, PackageError};
use crate::{Digest, DigestError, Places};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    Registry(Reference),
    /// As written: see [`Places`](crate::Places).
    Path(String),
    /// An image of the store.
    Digest(Digest),
    Package(Box<Install>),
}

/// An image of a registry, with everything that was left out put in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

/// Which image of a repository. A digest beats the tag that stands before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Version {
    Tag(String),
    Digest(Digest),
}

/// Why a text names no image of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("image {text:?}: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageRefError {
    #[error("image is empty")]
    Empty,
    #[error("image has a control character")]
    Control,
    #[error(transparent)]
    Registry(#[from] ReferenceError),
    #[error("image {0:?} looks like a file, and a path begins with '.', '/' or '~'")]
    LooksLikePath(String),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Package(#[from] PackageError),
}

const HUB: &str = "docker.io";
/// What a tag is when none is given.
const LATEST: &str = "latest";
/// Longest host and name together.
const MAX: usize = 255;
const FILES: [&str; 9] =
    [".mcpb", ".dxt", ".cpio", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".zip"];

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        if text.contains(char::is_control) {
            return Err(ImageRefError::Control);
        }
        if Ecosystem::split(text).is_some() {
            return Ok(Self::Package(Box::new(text.parse()?)));
        }
        if text.starts_with("sha256:") {
            return Ok(Self::Digest(text.parse()?));
        }
        if text.starts_with(['.', '/', '~']) {
            return Ok(Self::Path(text.to_owned()));
        }
        if !text.contains('/') && FILES.iter().any(|end| text.ends_with(end)) {
            return Err(ImageRefError::LooksLikePath(text.to_owned()));
        }
        Ok(Self::Registry(text.parse()?))
    }
}

impl ImageRef {
    /// What lies at an absolute path.
    pub fn at(path: &Path) -> Self {
        Self::Path(path.to_string_lossy().into_owned())
    }

    /// The same with a path from the root.
    #[must_use]
    pub fn expanded(self, places: &Places<'_>) -> Self {
        match self {
            Self::Path(written) => Self::at(&places.expand(&written)),
            other => other,
        }
    }
}

impl ImageRefError {
    /// What to type instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LooksLikePath(text) => Some(format!("--image ./{text}")),
            Self::Registry(ReferenceError { text, .. }) => {
                text.split_once("://").map(|(_, rest)| format!("--image {rest}"))
            }
            Self::Package(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        reference(text).map_err(|why| ReferenceError { text: text.to_owned(), why })
    }
}

impl Reference {
    /// `docker.io`, or a host with its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Within the host: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn version(&self) -> &Version {
        &self.version
    }
}

fn reference(text: &str) -> Result<Reference, &'static str> {
    if text.contains("://") {
        return Err("it is an address on the web, and a registry's image has no scheme");
    }
    let (place, digest) = text.split_once('@').map_or((text, None), |(p, d)| (p, Some(d)));
    let (host, rest) = match place.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (HUB, place),
    };
    let (name, tag) = rest.split_once(':').map_or((rest, LATEST), |(n, t)| (n, t));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    };
    let short = host == HUB && !name.contains('/');
    let name = if short { format!("library/{name}") } else { name.to_owned() };
    check_host(host)?;
    check_name(&name)?;
    check_tag(tag)?;
    if host.len() + name.len() >= MAX {
        return Err("it is longer than 255 characters");
    }
    let version = match digest {
        Some(digest) => {
            let digest = digest.parse().map_err(|_| "its digest is not sha256: and 64 digits")?;
            Version::Digest(digest)
        }
        None => Version::Tag(tag.to_owned()),
    };
    Ok(Reference { host: host.to_ascii_lowercase(), repository: name, version })
}

fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, port),
        _ => (host, "443"),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(is_label),
    };
    match plain && port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+') {
        true => Ok(()),
        false => Err("its registry is no host name with or without a port"),
    }
}

fn is_label(label: &str) -> bool {
    let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name.split('/').all(is_part) {
        true => Ok(()),
        false => Err(
            "its name has other than small letters and digits, with '.', '_', '__' or '-' between them",
        ),
    }
}

/// Letters and digits with one separator at a time between: `.`, `_`, `__`, or any number of `-`.
fn is_part(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(inner).filter(|separator| !separator.is_empty());
    part.starts_with(inner)
        && part.ends_with(inner)
        && separators
            .into_iter()
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| first(c) || c == '.' || c == '-';
    match tag.starts_with(first) && tag.chars().all(inner) && tag.len() <= 128 {
        true => Ok(()),
        false => Err("its tag is not 1 to 128 letters, digits, '_', '.' and '-'"),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, version } = self;
        let mark = if matches!(version, Version::Tag(_)) { ':' } else { '@' };
        write!(f, "{host}/{repository}{mark}{version}")
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Path(path) => f.write_str(path),
            Self::Digest(digest) => digest.fmt(f),
            Self::Package(install) => install.fmt(f),
        }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageRefError;

    fn try_from(text: String) -> Result<Self, ImageRefError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    #[test]
    fn a_registrys_image_is_told_in_full() {
        let digest = format!("sha256:{}", "a0".repeat(32));
        for (written, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("mcp/time", "docker.io/mcp/time:latest"),
            ("mcp/time:1.0", "docker.io/mcp/time:1.0"),
            ("docker.io/mcp/time", "docker.io/mcp/time:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("[::1]:5000/x/y", "[::1]:5000/x/y:latest"),
            ("ghcr.io/a/b__c/d--e:T_1", "ghcr.io/a/b__c/d--e:T_1"),
            ("library", "docker.io/library/library:latest"),
            ("bundle.mcpb/x", "bundle.mcpb/x:latest"),
        ] {
            assert_eq!(image(written).to_string(), full);
            assert_eq!(image(full), image(written));
        }
        let pinned = image(&format!("ghcr.io/x/y:tag@{digest}"));
        assert_eq!(pinned.to_string(), format!("ghcr.io/x/y@{digest}"));
    }

    #[test]
    fn the_first_characters_decide_what_it_is() {
        for path in ["./bundle.mcpb", "./dist", "/abs/x.tar", "~/x", "..", "."] {
            assert_eq!(image(path), ImageRef::Path(path.to_owned()));
        }
        let digest = format!("sha256:{}", "a0".repeat(32));
        assert!(matches!(image(&digest), ImageRef::Digest(_)));
        assert!(matches!(image("npm:@a/b@1.2.3"), ImageRef::Package(_)));
        assert!(matches!(image("pypi:a[b]>=1,<2 --with c"), ImageRef::Package(_)));
        assert!(matches!(image("npm"), ImageRef::Registry(_)));
    }

    #[test]
    fn what_names_no_image_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<ImageRef>().unwrap_err();
        assert_eq!(refused(""), ImageRefError::Empty);
        assert_eq!(refused("a\nb"), ImageRefError::Control);
        assert!(matches!(refused("sha256:abc"), ImageRefError::Digest(_)));
        assert!(matches!(refused("npm:"), ImageRefError::Package(_)));
        let file = refused("bundle.mcpb");
        assert_eq!(file.hint().unwrap(), "--image ./bundle.mcpb");
        let url = refused("docker://ghcr.io/a/b");
        assert_eq!(url.hint().unwrap(), "--image ghcr.io/a/b");
        for text in [
            "A/b",
            "a b",
            "a//b",
            "a/../b",
            "a:",
            "a:-x",
            "a_/b",
            "a___b",
            "-a",
            "x@sha256:ab",
            "ghcr.io/",
            "host:0/x",
            "host:99999/x",
            "ho_st.x/y",
            "a:b:c",
            "a@",
            "a@sha512:ab",
            "u:p@x.y/a",
            "a?b=c/d",
            "x.y/a#b",
            "x.y\\z/a",
        ] {
            assert!(matches!(refused(text), ImageRefError::Registry(_)), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_is_written_so_that_it_is_taken_again(text in "[a-z0-9.:/@_~-]{1,20}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                proptest::prop_assert_eq!(image.to_string().parse(), Ok(image));
            }
        }
    }
}
