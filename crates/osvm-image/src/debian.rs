//! A base layer from a distribution's own packages. Needs no root, and runs nothing that is in a package:
//! what maintainer scripts would have done is done here, as far as servers need it.
//!
//! ```text
//! names ─┬─ apt of the host: with an empty system ─────────────┬─> .deb files ── unwanted ──> tree ── finish ──> layer
//!        └─ apt of a base image, in a VM: archive ── received ─┘
//! ```
//!
//! Sources, lists and keys are apt's own: packages are as trusted as those that the host installs, or as the base image.

mod apt;
mod finish;
mod received;
mod tree;
mod unwanted;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use tree::Tree;

/// Downloads packages, and all that they need, inside of a base image: a script for its `sh`, whose arguments are
/// what [`asked`] says. Certificates to trust are its input (PEM). Its output is what [`Downloaded::received`] reads; its
/// last `error: ...` says why there is none, when it exits with 1.
pub const DOWNLOAD: &str = include_str!("debian/download.sh");

/// What servers of npm and PyPI run on.
pub const RUNTIME: &[&str] = &[
    // Servers of PyPI, and the scripts of the builder.
    "python3",
    // Whom programs trust by TLS.
    "ca-certificates",
    // Servers about repositories start it: mcp-server-git. Without Perl, which a few of its commands are written in.
    "git",
    // Node's own program wants both.
    "libgcc-s1",
    "libstdc++6",
    // What addons of npm are linked with where the processor has no instruction for what they do.
    "libatomic1",
    // Python's `zoneinfo` reads it: servers that tell the time.
    "tzdata",
];

/// What packages are built with, beside [`RUNTIME`].
pub const BUILD: &[&str] = &[
    // Compilers and make, for packages that bring nothing for this machine.
    "build-essential",
    // Builds of larger libraries are led by scripts in it.
    "perl",
    // Headers for extensions of Python.
    "python3-dev",
    // What `python3 -m venv` copies: builds of older packages call it.
    "python3-venv",
    // How builds ask for the flags of a library.
    "pkg-config",
];

/// A shell and what scripts in it take for granted: the distribution's essential packages, without those that
/// install packages, boot a machine, or let people log in.
const ESSENTIAL: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "mawk",
    "sed",
    "tar",
];

/// Why there is no layer.
#[derive(Debug, Error)]
pub enum DebianError {
    #[error("start {program}, which is part of Debian and its kin")]
    NoProgram { program: &'static str, source: io::Error },
    #[error("find {packages} in the package lists: {reason}")]
    Unknown { packages: String, reason: String },
    #[error("download packages of the distribution: {reason}")]
    Apt { reason: String },
    #[error("unpack {package}")]
    Read { package: String, source: io::Error },
    #[error("unpack {package}: it is no Debian package")]
    NoData { package: String },
    #[error("unpack {package}: with it the layer is larger than any should be")]
    Huge { package: String },
    #[error("read what the base image has downloaded")]
    Archive(#[source] io::Error),
    #[error("use what the base image has downloaded: {0}")]
    Received(&'static str),
    #[error("unpack {package}: {name} in it leads out of the root")]
    Name { package: String, name: String },
    #[error("write {}: the file system is full", path.display())]
    Full { path: PathBuf },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("finish the layer: no package has brought {0}")]
    Lacks(&'static str),
}

impl DebianError {
    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Write { path, source },
        }
    }
}

/// A package that was downloaded, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    file: PathBuf,
}

/// Packages that are here, with all that they need.
#[derive(Debug)]
pub struct Downloaded(Vec<Package>);

/// What apt is asked for, for a layer with `packages`.
pub fn asked<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    ESSENTIAL.iter().chain(packages).copied().collect()
}

impl Downloaded {
    /// By the host's apt. What is downloaded stays in the folder `work`, for the next time.
    pub fn by_apt(
        packages: &[&str],
        work: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self, DebianError> {
        let all = asked(packages);
        let needed = apt::needed(&all, work)?;
        say(&format!("downloading {} packages of the distribution", needed.len()));
        apt::download(&all, &needed, work)?;
        Ok(Self(needed))
    }

    /// Out of an archive that [`DOWNLOAD`] has written. What is in it is a stranger's; it is kept in the folder `work`.
    pub fn received(archive: &Path, work: &Path) -> Result<Self, DebianError> {
        received::packages(archive, work).map(Self)
    }
}

/// Writes a layer with `packages` of the distribution, and all that they need, to `target`: a compressed tar archive,
/// the same for the same packages. The folder `work` is written to meanwhile.
pub fn layer(
    packages: &[&str],
    downloaded: Downloaded,
    work: &Path,
    target: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<(), DebianError> {
    let all = downloaded.0.into_iter();
    let wanted: Vec<_> =
        all.filter(|package| unwanted::is_wanted(&package.name, packages)).collect();
    say(&format!("unpacking {} packages, {}", wanted.len(), mib(size(&wanted))));
    let mut tree = Tree::new(work)?;
    wanted.iter().try_for_each(|package| tree.unpack(package))?;
    finish::finish(&mut tree)?;
    tree.write(target)?;
    let size = target.metadata().map_or(0, |metadata| metadata.len());
    say(&format!("wrote {} files, {}", tree.len(), mib(size)));
    Ok(())
}

fn size(packages: &[Package]) -> u64 {
    packages.iter().filter_map(|package| package.file.metadata().ok()).map(|file| file.len()).sum()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests;
