//! A folder of the host's, or a single file, that a server is lent, as users write it: `HOST:GUEST[:ro|:rw|:rw-all]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FolderRule {
    /// As written: see [`Places`](crate::Places).
    pub host: String,
    /// An absolute path.
    pub guest: String,
    pub access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    #[default]
    Ro,
    /// Files that make the host run code stay as they are.
    Rw,
    RwAll,
}

/// Why a text is no folder and its place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FolderRuleError {
    #[error("mount {0:?} is not HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw")]
    Form(String),
    #[error("mount {text:?}: {guest:?} is no absolute path without '.' and '..'")]
    Guest { text: String, guest: String },
    #[error("mount {text:?}: nothing is mounted over {guest}")]
    Reserved { text: String, guest: String },
}

/// What the guest's agent has put there. Below it is refused as well.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/.osvm", "/run/osvm"];

impl FromStr for FolderRule {
    type Err = FolderRuleError;

    fn from_str(text: &str) -> Result<Self, FolderRuleError> {
        let said =
            text.rsplit_once(':').and_then(|(paths, last)| Some((paths, last.parse().ok()?)));
        let (paths, access) = said.unwrap_or((text, Access::default()));
        // The guest's path has no colon; the host's may.
        let form = || FolderRuleError::Form(text.to_owned());
        let (host, guest) = paths.rsplit_once(':').ok_or_else(form)?;
        if host.is_empty() || guest.is_empty() || text.contains('\0') {
            return Err(form());
        }
        check_guest(text, guest)?;
        let guest = guest.trim_end_matches('/').to_owned();
        Ok(Self { host: host.to_owned(), guest, access })
    }
}

fn check_guest(text: &str, guest: &str) -> Result<(), FolderRuleError> {
    let (text, owned) = (text.to_owned(), guest.to_owned());
    let has_dots = guest.split('/').any(|part| part == "." || part == "..");
    if !guest.starts_with('/') || has_dots {
        return Err(FolderRuleError::Guest { text, guest: owned });
    }
    let parts: Vec<_> = guest.split('/').filter(|part| !part.is_empty()).collect();
    let path = format!("/{}/", parts.join("/"));
    let is_taken = |reserved: &&str| path.starts_with(&format!("{reserved}/"));
    if parts.is_empty() || RESERVED.iter().any(is_taken) {
        return Err(FolderRuleError::Reserved { text, guest: owned });
    }
    Ok(())
}

/// The text is none of `ro`, `rw` and `rw-all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("access is none of ro, rw and rw-all")]
pub struct AccessError;

impl FromStr for Access {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        [Self::Ro, Self::Rw, Self::RwAll]
            .into_iter()
            .find(|access| access.to_string() == text)
            .ok_or(AccessError)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ro => "ro",
            Self::Rw => "rw",
            Self::RwAll => "rw-all",
        })
    }
}

impl fmt::Display for FolderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.host, self.guest, self.access)
    }
}

impl TryFrom<String> for FolderRule {
    type Error = FolderRuleError;

    fn try_from(text: String) -> Result<Self, FolderRuleError> {
        text.parse()
    }
}

impl From<FolderRule> for String {
    fn from(rule: FolderRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<FolderRule, FolderRuleError> {
        text.parse()
    }

    #[test]
    fn a_folder_is_read_only_unless_said_otherwise() {
        let shown = |text| rule(text).unwrap().to_string();
        assert_eq!(shown("./a:/work"), "./a:/work:ro");
        assert_eq!(shown("~/a:/work/:rw"), "~/a:/work:rw");
        assert_eq!(shown("/a:b:/work:rw-all"), "/a:b:/work:rw-all");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        for text in ["", "/a", ":/work", "/a:", "/a:rw", "/a\0:/work"] {
            assert!(
                matches!(rule(text), Err(FolderRuleError::Form(_) | FolderRuleError::Guest { .. })),
                "{text:?}"
            );
        }
        for text in ["/a:work", "/a:/work/../etc", "/a:/./b"] {
            assert!(matches!(rule(text), Err(FolderRuleError::Guest { .. })), "{text}");
        }
        for text in ["/a:/", "/a:/proc", "/a:/sys/fs", "/a://dev", "/a:/.osvm/x"] {
            assert!(matches!(rule(text), Err(FolderRuleError::Reserved { .. })), "{text}");
        }
        assert!(rule("/a:/process").is_ok());
    }
}
