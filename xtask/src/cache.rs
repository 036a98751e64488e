//! Where chores keep what takes long to make: outside the checkout, so that it outlives it.

use std::env::var_os;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `osvm/NAME` in `$XDG_CACHE_HOME` or `~/.cache`. It may not exist yet.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let home = |name| var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    home("XDG_CACHE_HOME")
        .or_else(|| Some(home("HOME")?.join(".cache")))
        .map(|cache| cache.join("osvm").join(name))
        .context("find a folder to keep things in: neither XDG_CACHE_HOME nor HOME is set")
}

/// What a run has found, for a page that is written anew.
pub(crate) trait Kept: Default + Serialize + DeserializeOwned {
    /// The file's name.
    const FILE: &str;

    /// Nothing, where nothing was found yet, or what was is no longer understood.
    fn read() -> Result<Self> {
        let text = fs::read_to_string(folder(Self::FILE)?).unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn write(&self) -> Result<()> {
        let path = folder(Self::FILE)?;
        fs::write(&path, serde_json::to_string(self)?)
            .with_context(|| format!("write {}", path.display()))
    }
}
