//! `$OSVM_HOME/osvm.lock`: what the user last accepted of each server. Its image, the packages in it, and
//! every tool's definition, so that a server whose code or tools changed since is noticed, and the change shown.
//!
//! ```text
//! tools/list ── Definition (canonical) ─┐
//! image ── digest, packages ────────────┴─ Now ── Locked::differences ── Difference ── lines
//! file ── Lock::parse ── Locked ────────────────────────┘
//! ```
//!
//! A file is read from and written to text; whoever keeps it does the rest.

mod canonical;
mod compare;
mod definition;
mod escape;
mod file;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use canonical::{CanonicalError, canonical};
pub use compare::{Difference, Listing, Now, PartChange};
pub use definition::{Definition, DefinitionError, Part};
pub use escape::escape;
pub use file::LockError;
pub use lines::{Line, Mark};

use crate::{Digest, ServerName};

/// A whole lock file, to be looked at and changed in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    pub servers: BTreeMap<ServerName, Locked>,
}

/// What was accepted of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    pub image: Digest,
    /// What the image was made from, for people: a reference, a path, a package.
    pub origin: String,
    pub packages: BTreeSet<Pin>,
    pub tools: Tools,
}

/// A package in an image. One image may hold several versions of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// `npm:NAME` or `pypi:NAME`.
    pub name: String,
    pub version: String,
    /// As the registry says it: `sha512-...` or `sha256:...`.
    pub integrity: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tools {
    /// The server could not be started yet, so nobody has seen them: the first listing is taken as it is.
    Pending,
    /// Every one that was accepted, whichever client was shown it.
    Known(BTreeMap<String, Definition>),
}

impl Tools {
    /// Takes a listing as accepted.
    pub fn accept(&mut self, listing: &Listing<'_>) {
        match (listing, self) {
            (Listing::Unknown, _) => {}
            (Listing::Client(tools), Self::Known(known)) => {
                known.extend(tools.iter().map(|(name, tool)| (name.clone(), tool.clone())));
            }
            (Listing::Client(tools) | Listing::Whole(tools), all) => {
                *all = Self::Known((*tools).clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
