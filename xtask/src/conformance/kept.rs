//! What was found, kept between runs, since one run looks at a part.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::clients::Outcome;
use super::servers::Revision;
use crate::cache;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) about: Vec<String>,
    pub(super) servers: Vec<Revision>,
    pub(super) clients: Vec<Outcome>,
}

impl Kept {
    /// Nothing, where nothing was found yet, or what was is no longer understood.
    pub(super) fn read() -> Result<Self> {
        let text = fs::read_to_string(path()?).unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = path()?;
        fs::write(&path, serde_json::to_string(self)?)
            .with_context(|| format!("write {}", path.display()))
    }
}

fn path() -> Result<PathBuf> {
    cache::folder("conformance.json")
}
