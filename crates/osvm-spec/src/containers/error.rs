//! Why a container's command line is not followed.

use thiserror::Error;

use crate::{FolderRuleError, ImageRefError};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContainerError {
    #[error(
        "{program} {subcommand}: of {program}'s commands only run starts a server that osvm can"
    )]
    Subcommand { program: &'static str, subcommand: String },
    #[error("{program} run names no image")]
    NoImage { program: &'static str },
    #[error("{program} run has flag {flag}, which osvm does not know")]
    UnknownFlag { program: &'static str, flag: String },
    #[error("{program} run has flag {flag}, which osvm does not follow: {why}")]
    RefusedFlag { program: &'static str, flag: String, why: &'static str },
    #[error("{program} run has flag {flag} without its value")]
    NoValue { program: &'static str, flag: String },
    /// Without the value, which may be a secret.
    #[error("{program} run has flag {flag} with a value that osvm does not understand: {why}")]
    Value { program: &'static str, flag: String, why: &'static str },
    #[error(transparent)]
    Image(#[from] ImageRefError),
    #[error(transparent)]
    Folder(#[from] FolderRuleError),
    #[error("variable {0:?} can't be handed on: its name has other than letters, digits and '_'")]
    Variable(String),
}

impl ContainerError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RefusedFlag { flag, .. } if flag.contains("net") => {
                Some("leave the flag out, and grant hosts by name: --allow HOST")
            }
            Self::UnknownFlag { .. } | Self::RefusedFlag { .. } => {
                Some("leave the flag out, if the server can do without")
            }
            Self::Subcommand { .. } => Some("osvm mcp add NAME --image REGISTRY/IMAGE"),
            _ => None,
        }
    }
}
