//! A base layer from the distribution's own packages. Needs apt and no root, and runs nothing that is in a package:
//! what maintainer scripts would have done is done here, as far as servers need it.
//!
//! ```text
//! names ── apt: with an empty system ──> .deb files ── unwanted ──> tree ── finish ──> layer
//! ```
//!
//! The host's sources, lists and keys are apt's own: packages are as trusted as those that the host installs.

mod apt;
mod finish;
mod tree;
mod unwanted;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use apt::Package;
use tree::Tree;

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

/// Writes a layer with `packages` of the distribution, and all that they need, to `target`: a compressed tar archive, the
/// same for the same packages. What is downloaded stays in the folder `work`, for the next time.
pub fn layer(
    packages: &[&str],
    work: &Path,
    target: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<(), DebianError> {
    let all: Vec<_> = ESSENTIAL.iter().chain(packages).copied().collect();
    let needed = apt::needed(&all, work)?;
    say(&format!("downloading {} packages of the distribution", needed.len()));
    apt::download(&all, &needed, work)?;
    let wanted: Vec<_> =
        needed.into_iter().filter(|package| unwanted::is_wanted(&package.name, packages)).collect();
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
