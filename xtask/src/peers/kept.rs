//! What was found last, for a page that is written anew.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::cache;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) about: Vec<String>,
    pub(super) rows: Vec<Row>,
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
    cache::folder("peers.json")
}
