//! MCPB bundles: a zip with a server and the manifest that says how to start it.
//!
//! ```text
//! bytes ── Bundle::open (table, names, bounds) ── Bundle::unpack ── a folder, which becomes a disk
//!                └── Manifest ── Manifest::start (what the user gave) ── Start: command, mounts, secrets
//! ```
//!
//! Everything in a bundle is a stranger's: the table is checked as a whole before a byte is unpacked.

mod bundle;
mod entries;
mod error;
mod manifest;
mod settings;
mod start;
mod substitute;
mod unpack;

pub use bundle::{Bundle, Limits};
pub use error::{BundleError, ManifestError, SettingError, StartError};
pub use manifest::{Compatibility, Kind, Manifest, Version};
pub use settings::{Setting, SettingKind};
pub use start::{Guest, Mount, Secret, Start};

#[cfg(test)]
mod tests;
