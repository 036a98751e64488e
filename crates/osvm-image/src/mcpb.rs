//! MCPB bundles: a zip with a server and the manifest that says how to start it.
//!
//! ```text
//! bytes ── Bundle::open (table, names, bounds) ── Bundle::write_layer ── a layer of the image
//!                └── Manifest ── Manifest::start (what the user gave) ── Start: command, mounts, secrets
//! ```
//!
//! Everything in a bundle is a stranger's: the table is checked as a whole before a byte is unpacked.

mod bundle;
mod entries;
mod error;
mod layer;
mod manifest;
mod settings;
mod start;
mod substitute;
mod unpack;

use std::io::Read;
use std::path::Path;

use crate::files;
pub use bundle::{Bundle, Limits};
pub use error::{BundleError, ManifestError, SettingError, StartError};
pub use layer::GUEST;
pub(crate) use layer::append_python;
pub use manifest::{Compatibility, Kind, Manifest, Version};
pub use settings::{Setting, SettingKind};
pub use start::{Guest, Secret, Start};

/// Whether it is called a bundle, or is a zip, which nothing else that images are made from is.
pub fn is_bundle(path: &Path) -> bool {
    let named = path.extension().is_some_and(|end| end == "mcpb" || end == "dxt");
    !path.is_dir() && (named || starts_as_zip(path))
}

fn starts_as_zip(path: &Path) -> bool {
    let mut start = [0; 4];
    files::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == *b"PK\x03\x04"
}

#[cfg(test)]
mod tests;
