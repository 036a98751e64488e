//! A tree of files as a disk that is only read: squashfs 4.0 with zstd, written without root.
//!
//! Kept: names, modes (set-user-id bits, too), numeric owners, times of change in seconds, symbolic
//! and hard links, holes, attributes of users and capabilities of programs. The same tree gives the
//! same bytes. Where a tree comes from is no matter of the disk's: it is a [`Tree`].
//!
//! One of them is a [`Folder`]. Whoever owns the folder itself is root on the disk, as is its group:
//! who is not root can't make files of root's. Left out: what is mounted inside the folder. Refused:
//! sockets, pipes and devices.
//!
//! The format is described in `Documentation/filesystems/squashfs.rst` of the Linux sources. Why
//! this one, this block size and this level: SPECIFICATION.md, "Disk images".

mod contents;
mod data;
mod folder;
mod inode;
mod metadata;
mod owners;
pub(crate) mod tree;
mod writer;
pub(crate) mod xattrs;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub(crate) use folder::Folder;
pub(crate) use writer::write;

/// Bytes of a file that are packed together.
const BLOCK: usize = 128 * 1024;
/// Of zstd: more makes disks a little smaller and many times slower to build.
const LEVEL: i32 = 3;

/// Why a folder can't become a disk.
#[derive(Debug, Error)]
pub enum DiskError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("put {} into an image: it is a {what}", path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error("put {} into an image: it changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("make a disk: there is too much for one")]
    TooMany,
    #[error("write a disk image")]
    Write(#[source] io::Error),
}

impl DiskError {
    fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

#[cfg(test)]
pub(crate) mod tests;
