//! A base layer from the distribution's own packages. Needs apt and no root, and runs nothing that is in a package:
//! what maintainer scripts would have done is done here, as far as servers need it.

use std::path::Path;

use thiserror::Error;

/// What servers of npm and PyPI run on.
pub const RUNTIME: &[&str] = &[
    // Servers of PyPI, and the scripts of the builder.
    "python3",
    // Whom programs trust by TLS.
    "ca-certificates",
    // Servers about repositories start it: mcp-server-git.
    "git",
    // Node's own program wants both.
    "libgcc-s1",
    "libstdc++6",
    // What addons of npm with counters larger than a word are linked with.
    "libatomic1",
];

/// What packages are built with; all of [`RUNTIME`] is among it.
pub const BUILD: &[&str] = &[
    "python3",
    "ca-certificates",
    "git",
    "libgcc-s1",
    "libstdc++6",
    "libatomic1",
    // Compilers and make: packages that bring no program for this machine are built from source.
    "build-essential",
    // Headers for extensions of Python.
    "python3-dev",
    // What `python3 -m venv` copies: builds of older packages call it.
    "python3-venv",
    // How builds ask for the flags of a library.
    "pkg-config",
];

/// Why there is no layer.
#[derive(Debug, Error)]
pub enum DebianError {
    #[error("make a layer of {0}: not yet")]
    Missing(String),
}

/// Writes a layer with the distribution's `packages`, and all that they need, to `target`: a compressed tar archive, the
/// same for the same packages. `work` is a folder for what is downloaded, which may be kept for the next time.
pub fn layer(
    packages: &[&str],
    _work: &Path,
    _target: &Path,
    _say: &mut dyn FnMut(&str),
) -> Result<(), DebianError> {
    Err(DebianError::Missing(packages.join(", ")))
}
