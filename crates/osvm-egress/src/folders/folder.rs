//! What a share process opens before it is confined. Afterwards it opens nothing by a path.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use thiserror::Error;

/// A folder, or a file, held to be lent. A file is its own root, and has no names in it.
#[derive(Debug)]
pub struct Folder {
    pub(super) root: OwnedFd,
    /// `/proc/self/fd`: by its number there, what is held is opened anew.
    pub(super) descriptors: OwnedFd,
}

/// Why a folder can't be held.
#[derive(Debug, Error)]
pub enum HoldError {
    #[error(
        "open /proc/self/fd (hint: the process needs a /proc, or this descriptor from before): {0}"
    )]
    Descriptors(#[source] Errno),
    #[error("look at the folder: {0}")]
    Look(#[source] Errno),
    #[error("what is lent is neither a folder nor a file")]
    Neither,
}

impl Folder {
    /// Needs a `/proc`; one of processes only (`subset=pid`) is enough.
    pub fn hold(root: OwnedFd) -> Result<Self, HoldError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(CWD, "/proc/self/fd", flags, Mode::empty());
        Self::hold_with(root, descriptors.map_err(HoldError::Descriptors)?)
    }

    /// For a process without a `/proc`: `descriptors` is its own `/proc/self/fd`, opened (best with `O_PATH`)
    /// in the same process while it had one.
    pub fn hold_with(root: OwnedFd, descriptors: OwnedFd) -> Result<Self, HoldError> {
        let stat = fstat(&root).map_err(HoldError::Look)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory | FileType::RegularFile => Ok(Self { root, descriptors }),
            _ => Err(HoldError::Neither),
        }
    }
}
