//! Container images as disks: their layers are merged in memory, by names alone, and packed.
//!
//! ```text
//! layout folder ─┐
//! archive ───────┼─ Manifest ─ layers ─> spool ─> merged tree ─> disk
//! registry ──────┘             digests checked
//! ```
//!
//! Layers are decompressed into one spool file, which has no name and goes with this process; what is
//! kept in memory are names. Everything that is read is hostile and is held to [`Limits`].

mod archive;
mod build;
mod docker;
pub(crate) mod first;
pub(crate) mod fuzz;
mod layer;
pub(crate) mod layout;
mod manifest;
mod merge;
pub(crate) mod registry;
mod spool;
pub(crate) mod tar;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::Digest;
use crate::disk::DiskError;
use spool::Spool;

pub(crate) use build::{Built, Job};
pub use merge::NameError;
pub use osvm_spec::{Reference, ReferenceError};
pub use registry::{Access, Asking, HelperError, Proxies, RegistryError, Transport, Trust};
pub use tar::TarError;

/// The architecture of guests, as images call it.
pub const ARCHITECTURE: &str = "amd64";

/// What an image may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all layers as they are stored. What claims to have more is not begun to be brought.
    pub stored: u64,
    /// Of all layers, decompressed, and of all sparse files with their holes.
    pub bytes: u64,
    /// How many times larger a layer may get by being decompressed.
    pub ratio: u64,
    /// Names in all layers.
    pub entries: u64,
    /// Bytes of names, link targets, attributes and maps of sparse files.
    pub memory: u64,
    pub layers: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Limits {
    pub(crate) const USUAL: Self = Self {
        stored: 32 << 30,
        bytes: 64 << 30,
        ratio: 200,
        entries: 500_000,
        memory: 48 << 20,
        layers: 1000,
    };

    fn hold(&self, found: u64, limit: u64, what: &'static str) -> Result<(), OciError> {
        if found > limit { Err(OciError::Limit { limit, what }) } else { Ok(()) }
    }
}

/// Why an image can't become a disk.
#[derive(Debug, Error)]
pub enum OciError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("read {what}")]
    Blob { what: String, source: io::Error },
    #[error("find {0}: the image has none")]
    Missing(String),
    #[error("understand {what}")]
    Json { what: String, source: serde_json::Error },
    #[error("understand {what}: {why}")]
    Form { what: String, why: &'static str },
    #[error("trust {what}: it has {found} bytes instead of {asked}")]
    Size { what: String, asked: u64, found: u64 },
    #[error("trust {what}: its digest is {found}, not {asked}")]
    Digest { what: String, asked: Digest, found: Digest },
    #[error("choose an image for linux/{asked}: {}", has(.found))]
    Platform { asked: String, found: Vec<String> },
    #[error("choose an image: there are several: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error("choose image {asked}: {}", has(.found))]
    Unnamed { asked: String, found: Vec<String> },
    #[error("unpack layer {layer}")]
    Layer { layer: String, source: TarError },
    #[error("unpack {} of layer {layer}", name.display())]
    Name { layer: String, name: PathBuf, source: NameError },
    #[error("unpack the image: it has over {limit} {what}")]
    Limit { limit: u64, what: &'static str },
    #[error("unpack {what}: decompressed it is over {ratio} times as large")]
    Ratio { what: String, ratio: u64 },
    #[error("keep layers in {}", path.display())]
    Spool { path: PathBuf, source: io::Error },
    #[error("pull {what}")]
    Registry { what: String, source: Box<RegistryError> },
    #[error("make a disk of the image")]
    Disk(#[from] DiskError),
}

impl OciError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint(),
            _ => None,
        }
    }
}

fn has(found: &[String]) -> String {
    if found.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are {}", found.join(", "))
    }
}

#[cfg(test)]
mod tests;
