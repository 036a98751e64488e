//! Our changes to the kernel: `guest/kernel/*.patch`, each with its reason. As few as possible.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One change, and where it is written.
pub(crate) struct Patch {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// In the order of their names, in which they are applied.
pub(crate) fn read(folder: &Path) -> Result<Vec<Patch>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()));
    let paths = entries?.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "patch")).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Patch { path, text })
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.patch", "a.patch", "osvm.config"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let texts: Vec<_> = read(folder.path()).unwrap().into_iter().map(|one| one.text).collect();
        assert_eq!(texts, ["a.patch", "b.patch"]);
    }
}
