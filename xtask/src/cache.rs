//! Where chores keep what takes long to make: outside the checkout, so that it outlives it.

use std::env::var_os;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// `osvm/NAME` in `$XDG_CACHE_HOME` or `~/.cache`. It may not exist yet.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let home = |name| var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    home("XDG_CACHE_HOME")
        .or_else(|| Some(home("HOME")?.join(".cache")))
        .map(|cache| cache.join("osvm").join(name))
        .context("find a folder to keep things in: neither XDG_CACHE_HOME nor HOME is set")
}
