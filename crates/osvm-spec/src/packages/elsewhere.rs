//! Packages that no registry has: recognised, so that they are refused by what they are.

use std::fmt;

use super::PackageError;

/// Where such a package lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    Git,
    Url,
    /// A file or a folder of the host's.
    Path,
    /// npm's `name@npm:other`, which would install another package than the one it names.
    Alias,
    /// A registry that osvm does not know.
    Registry,
}

const PREFIXES: [(&str, Elsewhere); 16] = [
    ("git+", Elsewhere::Git),
    ("git:", Elsewhere::Git),
    ("git@", Elsewhere::Git),
    ("ssh:", Elsewhere::Git),
    ("github:", Elsewhere::Git),
    ("gitlab:", Elsewhere::Git),
    ("bitbucket:", Elsewhere::Git),
    ("gist:", Elsewhere::Git),
    ("file:", Elsewhere::Path),
    ("link:", Elsewhere::Path),
    ("portal:", Elsewhere::Path),
    ("workspace:", Elsewhere::Path),
    ("npm:", Elsewhere::Alias),
    ("jsr:", Elsewhere::Registry),
    ("~/", Elsewhere::Path),
    ("~\\", Elsewhere::Path),
];

const ARCHIVES: [&str; 5] = [".tgz", ".tar", ".tar.gz", ".whl", ".zip"];

impl Elsewhere {
    /// What the text names, if that is not a package of a registry.
    pub(super) fn of(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let by_prefix = PREFIXES.iter().find(|(prefix, _)| lower.starts_with(prefix));
        if let Some((_, place)) = by_prefix {
            return Some(*place);
        }
        if lower.contains("://") {
            return Some(if lower.contains("git+") || lower.contains(".git") {
                Self::Git
            } else {
                Self::Url
            });
        }
        (is_path(&lower) || ARCHIVES.iter().any(|end| lower.ends_with(end))).then_some(Self::Path)
    }

    pub(super) fn refuse(self, spec: &str) -> PackageError {
        PackageError::Elsewhere { spec: spec.to_owned(), place: self }
    }
}

/// Also a Windows one, with a drive in front.
fn is_path(text: &str) -> bool {
    let drive = text.as_bytes().get(1) == Some(&b':') && text.len() > 2;
    text.starts_with(['.', '/', '\\']) || drive
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Git => "a git repository",
            Self::Url => "an address on the web",
            Self::Path => "a file or folder",
            Self::Alias => "another name for a package",
            Self::Registry => "of another registry",
        })
    }
}
