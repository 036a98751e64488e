//! Why a bundle is not used, from its bytes to what its user gave.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use zip::result::ZipError;

use super::manifest::Version;
use super::settings::SettingKind;

/// Why a file is no bundle, or one that is not unpacked.
#[derive(Debug, Error)]
pub enum BundleError {
    #[error("read bundle: {0}")]
    Zip(ZipError),
    #[error("read bundle")]
    Read(#[source] io::Error),
    #[error("read bundle: it is over {0} bytes")]
    Packed(u64),
    #[error("read bundle: its table of contents is over {0} bytes")]
    Table(u64),
    #[error("read bundle: it has {found} entries, the limit is {limit}")]
    Entries { found: usize, limit: usize },
    #[error("read bundle: it unpacks to over {0} bytes")]
    Unpacked(u64),
    #[error("read bundle: it unpacks to over {0} times its size")]
    Ratio(u64),
    #[error("read bundle: {name:?} {why}")]
    Entry { name: String, why: &'static str },
    #[error("read bundle: {name:?} and {other:?} are the same name where capitals don't count")]
    SameName { name: String, other: String },
    #[error("read bundle: two entries have one name")]
    Duplicate,
    #[error("read bundle: it has no manifest.json")]
    NoManifest,
    #[error("read {name:?} in bundle")]
    Data { name: String, source: io::Error },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why a manifest is none that osvm follows.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("read manifest.json of bundle: it is no such JSON")]
    Json(#[source] serde_json::Error),
    #[error("read manifest.json of bundle: it has no manifest_version")]
    NoVersion,
    #[error(
        "read manifest.json of bundle: its version is {found:?}, known are {} to {}",
        Version::OLDEST,
        Version::NEWEST
    )]
    Version { found: String },
    #[error(
        "read manifest.json of bundle: manifest_version is {manifest:?} and dxt_version {dxt:?}"
    )]
    TwoVersions { manifest: String, dxt: String },
    #[error(
        "read manifest.json of bundle: server type uv came with version {}, and this is {found}",
        Version::V0_4
    )]
    TooNew { found: Version },
    #[error("read manifest.json of bundle: its server has no mcp_config")]
    NoCommand,
    #[error("use bundle {name:?}: it is for {}, not for linux", .platforms.join(", "))]
    Platform { name: String, platforms: Vec<String> },
    #[error("read manifest.json of bundle: setting {key:?} {why}")]
    Setting { key: String, why: &'static str },
}

/// Why a value is none that a setting takes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    #[error("setting {key} is a {kind}, and {value:?} is none")]
    Type { key: String, kind: SettingKind, value: String },
    #[error("setting {key} of {value} is outside {} to {}", show(min), show(max))]
    Range { key: String, value: String, min: Option<String>, max: Option<String> },
    #[error("setting {key} takes one value, and {count} were given")]
    Several { key: String, count: usize },
    #[error("setting {0} holds a zero byte, which no program can be given")]
    ZeroByte(String),
    #[error("setting {0} is a path with a colon, and no mount can be written with one")]
    Colon(String),
    #[error("setting {0} is a secret: its value is never written down")]
    Secret(String),
}

/// Why a bundle's server can't be started with what was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("start bundle's server: it has no setting {key:?}")]
    UnknownSetting { key: String },
    #[error("start bundle's server: it needs setting {key} ({title})")]
    Missing { key: String, title: String },
    #[error("start bundle's server: its manifest uses the setting {key:?}, which it does not have")]
    Undeclared { key: String },
    #[error("start bundle's server: setting {key} has several values, and {place} takes one")]
    Several { key: String, place: &'static str },
    #[error(
        "start bundle's server: setting {key} is a secret, and its manifest puts it into {place}, where everyone in the VM can see it"
    )]
    Exposed { key: String, place: &'static str },
    #[error(
        "start bundle's server: setting {key} is a secret, and its manifest makes it a part of variable {variable}"
    )]
    SecretPart { key: String, variable: String },
    #[error("start bundle's server: {0:?} is no name of an environment variable")]
    Variable(String),
    #[error("start bundle's server: its command is empty")]
    NoCommand,
    #[error("start bundle's server: its manifest has a zero byte in {0}")]
    ZeroByte(&'static str),
}

fn show(limit: &Option<String>) -> &str {
    limit.as_deref().unwrap_or("any")
}
