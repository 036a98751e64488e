//! What runs inside of the builder, the microVM that images of npm's and PyPI's packages are made in: three
//! scripts for its Python, what they are asked, and what they answer.
//!
//! ```text
//! stdin: request as JSON ──> python3 -c SCRIPT ──> stdout: a tar archive
//!                                             └──> stderr: progress; last `error: ...` when it exits with 1
//! ```
//!
//! Everything that comes back is hostile: a package's own code has run beside the script. What a package
//! is ([`Installed`]) is told before that, in the archive's first entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use osvm_spec::lock::Pin;
use osvm_spec::packages::{Ecosystem, Install, Program};
use serde::{Deserialize, Serialize};

use crate::oci::{OciError, first};

/// Brings Node, npm and uv out of the registries, pinned by their checksums: see [`ToolboxRequest`].
pub const TOOLBOX: &str = concat!(
    include_str!("builder/stream.py"),
    include_str!("builder/compile.py"),
    include_str!("builder/toolbox.py"),
);

/// Installs one package: see [`InstallRequest`]. Needs the layers of [`Part::Node`] and [`Part::Installers`].
pub const INSTALL: &str = concat!(
    include_str!("builder/stream.py"),
    include_str!("builder/compile.py"),
    include_str!("builder/npm.py"),
    include_str!("builder/pypi.py"),
    include_str!("builder/install.py"),
);

/// Installs what a bundle's project needs, or one of this host: see [`BundleRequest`]. Needs the same layers.
pub const BUNDLE: &str = concat!(
    include_str!("builder/stream.py"),
    include_str!("builder/compile.py"),
    include_str!("builder/pypi.py"),
    include_str!("builder/bundle.py"),
);

/// Longest layer that [`BUNDLE`] is asked about: what uv installs is not in it.
pub const MAX_BUNDLE: u64 = 64 << 20;

/// How a line of the progress begins that people are to see even when all goes well.
pub const WARNING: &str = "warning: ";

/// The first entry of what [`INSTALL`] writes: an [`Installed`]. No part of the image.
pub const INSTALLED: &str = "installed.json";

/// Longest that [`INSTALLED`] may be: a thousand packages are 200 KiB.
pub const MAX_INSTALLED: u64 = 4 << 20;

/// What [`TOOLBOX`] is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolboxRequest<'a> {
    pub part: Part,
    /// As Linux calls it: `x86_64`.
    pub arch: &'a str,
    #[serde(flatten)]
    pub registries: Registries<'a>,
}

/// Which layer [`TOOLBOX`] makes. Run in this order in one VM, nothing is downloaded twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What servers of npm run on.
    Node,
    /// npm, uv, and Node's headers. For building only.
    Installers,
    /// The distribution's Python, compiled. It lies beside the sources, and starts several times as fast.
    Bytecode,
}

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Registries<'a> {
    /// Such as `https://registry.npmjs.org`.
    #[serde(rename = "npm_registry")]
    pub npm: &'a str,
    /// A simple index, such as `https://pypi.org/simple`; may hold a name and a password.
    #[serde(rename = "pypi_index")]
    pub pypi: &'a str,
    /// Certificates to trust beside the distribution's, as PEM.
    pub ca: Option<&'a str>,
}

/// What [`INSTALL`] is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstallRequest<'a> {
    ecosystem: &'static str,
    package: String,
    with: Vec<String>,
    python: Option<&'a str>,
    program: Wanted<'a>,
    #[serde(flatten)]
    registries: Registries<'a>,
    npmrc: Option<&'a str>,
    script_seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
enum Wanted<'a> {
    Default,
    Named(&'a str),
    Module(&'a str),
}

impl<'a> InstallRequest<'a> {
    /// Packages' own scripts and builds may take `script_seconds`.
    pub fn new(install: &'a Install, registries: Registries<'a>, script_seconds: u32) -> Self {
        let ecosystem = install.ecosystem;
        Self {
            ecosystem: ecosystem.as_str(),
            package: ecosystem.spec(&install.package),
            with: install.with.iter().map(|package| ecosystem.spec(package)).collect(),
            python: install.python.as_deref(),
            program: Wanted::from(&install.program),
            registries,
            npmrc: None,
            script_seconds,
        }
    }

    /// With settings of npm's, which may hold tokens: no package's script sees them.
    #[must_use]
    pub fn with_npmrc(self, text: &'a str) -> Self {
        Self { npmrc: Some(text).filter(|_| self.ecosystem == Ecosystem::Npm.as_str()), ..self }
    }
}

/// What [`BUNDLE`] is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleRequest<'a> {
    #[serde(flatten)]
    project: Project<'a>,
    /// Its own layer, in Base64.
    layer: String,
    #[serde(flatten)]
    registries: Registries<'a>,
    script_seconds: u32,
}

/// A project of Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Project<'a> {
    /// What people call it.
    pub package: &'a str,
    /// Where it lies in the guest.
    pub folder: &'a str,
    /// Whether uv is what starts it, from its source, as it does bundles. Otherwise it is installed into its environment,
    /// and started from there.
    pub started_by_uv: bool,
}

impl<'a> BundleRequest<'a> {
    pub fn new(
        project: Project<'a>,
        layer: &[u8],
        registries: Registries<'a>,
        script_seconds: u32,
    ) -> Self {
        Self { project, layer: BASE64_STANDARD.encode(layer), registries, script_seconds }
    }
}

impl<'a> From<&'a Program> for Wanted<'a> {
    fn from(program: &'a Program) -> Self {
        match program {
            Program::Default => Self::Default,
            Program::Named(name) => Self::Named(name),
            Program::Module(name) => Self::Module(name),
        }
    }
}

/// What was installed, told before any of its code has run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Installed {
    /// The program and its first arguments, by absolute paths.
    pub entrypoint: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// What was asked for.
    pub package: Identity,
    /// It, and everything that it needs.
    pub packages: Vec<InstalledPackage>,
}

/// A package by its name in the registry and its version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstalledPackage {
    pub name: String,
    pub version: String,
    /// Of the one file that it came in: `sha512-BASE64` with npm, `sha256:HEX` with PyPI. Empty for a package
    /// that came inside of another one.
    pub integrity: String,
}

impl Installed {
    /// Of the bytes of [`INSTALLED`], which are hostile.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// What the lock holds of it. A package that came inside of another one is that one's.
    pub fn pins(&self, ecosystem: Ecosystem) -> BTreeSet<Pin> {
        let pin = |package: &InstalledPackage| Pin {
            name: format!("{}:{}", ecosystem.as_str(), package.name),
            version: package.version.clone(),
            integrity: package.integrity.clone(),
        };
        let own = self.packages.iter().filter(|package| !package.integrity.is_empty());
        own.map(pin).collect()
    }

    /// Of an archive that [`INSTALL`] has written.
    pub fn of(layer: &Path) -> Result<Self, OciError> {
        let bytes = first::read(layer, INSTALLED, MAX_INSTALLED)?;
        let what = INSTALLED.to_owned();
        Self::parse(&bytes).map_err(|source| OciError::Json { what, source })
    }
}

/// Why a script gave up: completes "failed to ...". The last such line of what it said on stderr.
pub fn complaint(said: &str) -> Option<&str> {
    said.lines().rev().find_map(|line| line.strip_prefix("error: "))
}

#[cfg(test)]
mod tests;
