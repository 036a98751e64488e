//! Servers that lie on this host as one program or as a project: what they are, how they are started, and their files
//! as a layer. What is a root file system, an archive or a bundle is none of these.
//!
//! ```text
//! program ── magic ──> /usr/local/bin/NAME over what its kind needs
//! project ── package.json, pyproject.toml ──> /app over what its kind needs
//! ```
//!
//! They are read, and nothing of them is run here.

mod error;
mod layer;
mod program;
mod project;
mod python;

use std::fs;
use std::path::{Path, PathBuf};

pub use crate::mcpb::Kind;
pub use error::LocalError;

/// Where a project lies in the guest.
pub const PROJECT: &str = "/app";
/// Where a program does.
const PROGRAMS: &str = "/usr/local/bin";

/// A server as it is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// From the root, without links.
    pub path: PathBuf,
    /// What it runs on.
    pub kind: Kind,
    /// How it is started in the guest; what follows is its arguments.
    pub command: Vec<String>,
    is_project: bool,
}

/// Whether it is taken for a server, and not for what images are made from otherwise. It may still be one that can't
/// run.
pub fn is_server(path: &Path) -> bool {
    match path.is_dir() {
        true => project::is_project(path),
        false => program::is_program(path),
    }
}

impl Server {
    pub fn read(path: &Path) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Read { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(failed)?;
        let is_project = path.is_dir();
        let (kind, command) = match is_project {
            true => project::start(&path)?,
            false => (program::kind(&path)?, program::command(&path)?),
        };
        Ok(Self { path, kind, command, is_project })
    }

    /// Where it is started, if that is not left to the guest.
    pub fn working_dir(&self) -> Option<&'static str> {
        self.is_project.then_some(PROJECT)
    }
}

#[cfg(test)]
mod tests;
