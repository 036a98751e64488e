//! What an image is made from, and whether it still looks as it did.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::ImportError;
use super::import::not_a_disk;
use crate::disk::Tree;
use crate::files;

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A root file system as a folder; becomes a disk.
    Folder(PathBuf),
    /// A `newc` archive, possibly compressed; becomes (part of) the initramfs.
    Cpio(PathBuf),
}

/// What a source looks like at one time: nothing of it is read.
#[derive(Debug)]
pub(super) enum Look {
    Folder(Tree),
    Cpio(Archive),
}

#[derive(Debug)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    pub(super) stat: Metadata,
}

/// Kernels write times of change in steps of at most this.
const CLOCK_STEP: Duration = Duration::from_millis(10);

impl Source {
    /// A folder or an archive, by what is at `path`.
    pub fn at(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(failed)?;
        let kind = fs::metadata(&path).map_err(failed)?.file_type();
        if kind.is_dir() {
            return Ok(Self::Folder(path));
        }
        if kind.is_file() {
            return Ok(Self::Cpio(path));
        }
        Err(ImportError::Kind { path })
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Cpio(path) => path,
        }
    }

    pub(super) fn look(&self) -> Result<Look, ImportError> {
        match self {
            Self::Folder(path) => Tree::scan(path).map(Look::Folder).map_err(not_a_disk(path)),
            Self::Cpio(path) => {
                let failed = |source| ImportError::Read { path: path.clone(), source };
                let stat = fs::metadata(path).map_err(failed)?;
                Ok(Look::Cpio(Archive { path: path.clone(), stat }))
            }
        }
    }

    /// A file name that stands for this source.
    pub(super) fn key(&self) -> String {
        let kind = match self {
            Self::Folder(_) => "folder",
            Self::Cpio(_) => "cpio",
        };
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update([0]);
        hash.update(self.path().as_os_str().as_bytes());
        files::hex(&hash.finalize())
    }
}

impl Look {
    /// Changes whenever anything changes that `stat` shows.
    pub(super) fn fingerprint(&self) -> String {
        files::hex(&match self {
            Self::Folder(tree) => tree.fingerprint(),
            Self::Cpio(Archive { stat, .. }) => {
                let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
                let numbers = [stat.dev(), stat.ino(), stat.size()];
                let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
                let bytes: Vec<u8> =
                    numbers.chain(times.into_iter().flat_map(i64::to_le_bytes)).collect();
                Sha256::digest(bytes).into()
            }
        })
    }

    /// Whether something may change after `now` and still look the same: its last change and the
    /// next would get the same time. `now` is by the clock of the file system.
    pub(super) fn is_fresh(&self, now: &Metadata) -> bool {
        let last = match self {
            Self::Folder(tree) => tree.last_change(),
            Self::Cpio(Archive { stat, .. }) => (stat.ctime(), stat.ctime_nsec()),
        };
        let nanos =
            |(seconds, nanos): (i64, i64)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let step = i128::try_from(CLOCK_STEP.as_nanos()).expect("milliseconds");
        nanos(last) + step >= nanos((now.ctime(), now.ctime_nsec()))
    }
}
