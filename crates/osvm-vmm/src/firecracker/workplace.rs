//! The folder in which Firecracker works: its sockets and pipes, and nothing else of the machine's.
//!
//! It belongs to Firecracker's own user, where there is one; what the daemon makes in there is handed
//! over to the same.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, lchown};
use std::path::{Path, PathBuf};

use crate::VmmError;

/// In the run directory.
const NAME: &str = "vmm";

#[derive(Debug)]
pub(super) struct Workplace(PathBuf);

impl Workplace {
    pub(super) fn make(run_dir: &Path, user: Option<u32>) -> Result<Self, VmmError> {
        let path = Self::of(run_dir).0;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let made = made.and_then(|()| chown(&path, user, user));
        match made {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(VmmError::File { act: "make folder", path, source }),
        }
    }

    /// The one that a machine with this run directory has.
    pub(super) fn of(run_dir: &Path) -> Self {
        Self(run_dir.join(NAME))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Gives a file to whoever has the folder.
    pub(super) fn hand_over(&self, file: &Path) -> io::Result<()> {
        let folder = fs::metadata(&self.0)?;
        lchown(file, Some(folder.uid()), Some(folder.gid()))
    }
}
