//! The folder in which Firecracker works: its sockets and pipes, and nothing else of the machine's.
//!
//! It belongs to Firecracker's own user, where there is one; what the daemon makes in there is handed
//! over to the same.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::VmmError;

/// In the run directory.
const NAME: &str = "vmm";

const ROOM: &str = "write a guest's memory to";

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

    /// A name that leads elsewhere.
    pub(super) fn link(&self, name: &str, to: &str) -> Result<(), VmmError> {
        let path = self.path(name);
        symlink(to, &path).map_err(|source| VmmError::File { act: "make link", path, source })
    }

    /// An empty file that Firecracker may write: it can make none.
    pub(super) fn new_file(&self, name: &str) -> Result<File, VmmError> {
        let path = self.path(name);
        let mut options = File::options();
        let made = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let made = made.and_then(|file| self.hand_over(&path).map(|()| file));
        made.map_err(|source| VmmError::File { act: "make file", path, source })
    }

    /// Whether there is disk for so many bytes.
    pub(super) fn has_room(&self, bytes: u64) -> Result<(), VmmError> {
        let failed = |source| VmmError::File { act: ROOM, path: self.0.clone(), source };
        let disk = statvfs(&self.0).map_err(|errno| failed(errno.into()))?;
        let free = disk.f_bavail * disk.f_frsize;
        if free >= bytes {
            return Ok(());
        }
        let why = format!("{} MiB are free, it needs {}", free >> 20, bytes >> 20);
        Err(failed(io::Error::new(io::ErrorKind::StorageFull, why)))
    }

    /// Of files that are not there, none is left either.
    pub(super) fn remove(&self, names: &[&str]) {
        for name in names {
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// Gives a file to whoever has the folder.
    pub(super) fn hand_over(&self, file: &Path) -> io::Result<()> {
        let folder = fs::metadata(&self.0)?;
        lchown(file, Some(folder.uid()), Some(folder.gid()))
    }
}
