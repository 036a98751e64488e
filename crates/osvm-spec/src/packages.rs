//! Servers that come as a package: what READMEs tell people to type (`npx -y NAME`, `uvx NAME`), as
//! what is to be installed and which of its programs is the server. Nothing is looked up: whether a
//! registry has it is seen when it is built.
//!
//! ```text
//! argv ── runner (whose command?) ── flags (what does it say?) ── npm | pypi (which package?) ── Request
//! text ────────────────────────────── flags ──────────────────── npm | pypi ─────────────────── Install
//! ```

mod elsewhere;
mod error;
mod flags;
mod npm;
mod pypi;
mod runner;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use elsewhere::Elsewhere;
pub use error::PackageError;
pub use runner::{Recognised, recognise};

/// A command that runs a package's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub install: Install,
    /// Of the program.
    pub args: Vec<String>,
    /// What `env NAME=value` said in front.
    pub env: BTreeMap<String, String>,
}

/// What an image is built from. Its text is `npm:NAME[@WANTED]` or `pypi:NAME[EXTRAS][WANTED]`, then
/// `--with SPEC`, `--python VERSION` and `--bin NAME` or `--module NAME`, quoted as a shell does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Install {
    pub ecosystem: Ecosystem,
    pub package: Package,
    /// Installed beside it, from the same registry.
    pub with: Vec<Package>,
    /// Version of Python, such as `3.12`; never with npm.
    pub python: Option<String>,
    pub program: Program,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    Npm,
    PyPi,
}

/// A package of a registry. Valid by construction: see [`Ecosystem::package`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Package {
    name: String,
    extras: Vec<String>,
    wanted: Wanted,
}

/// Which versions will do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Nothing said: the newest.
    Any,
    Exact(String),
    /// As the registry's tools write it: `^1.2 || 3.x`, `>=1,<2`.
    Range(String),
    /// A name that the registry gives to a version: `next`. Only npm.
    Tag(String),
}

/// Which program of the installed ones is the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Program {
    /// The package's only one, or the one of its own name.
    Default,
    Named(String),
    /// `python -m` of this; never with npm.
    Module(String),
}

impl Ecosystem {
    /// A package as the ecosystem's own tools take it: `@scope/name@^1`, `name[extra]>=1,<2`.
    pub fn package(self, text: &str) -> Result<Package, PackageError> {
        match self {
            Self::Npm => npm::package(text.trim()),
            Self::PyPi => pypi::package(text.trim()),
        }
    }

    /// The text that [`Self::package`] takes, and so do `npm install` and `uv pip install`.
    pub fn spec(self, package: &Package) -> String {
        match self {
            Self::Npm => npm::spec(package),
            Self::PyPi => pypi::spec(package),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::PyPi => "pypi",
        }
    }
}

impl Package {
    /// As the registry writes it: with its scope, or normalised by PEP 503.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sorted; only PyPI has them.
    pub fn extras(&self) -> &[String] {
        &self.extras
    }

    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
