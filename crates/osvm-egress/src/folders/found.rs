//! A name in a folder, opened: one name, and no way out.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

/// A file that was found under a name, held by a descriptor that neither reads nor writes.
pub(super) struct Found {
    pub(super) file: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    /// In that folder. Another mount is as good as locked.
    pub(super) fn find(parent: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let within = ResolveFlags::BENEATH
            | ResolveFlags::NO_XDEV
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = loop {
            match openat2(&parent, name, flags, Mode::empty(), within) {
                // Something was renamed or mounted meanwhile, anywhere.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::XDEV) => return Err(Errno::ACCESS),
                Err(Errno::MFILE) => return Err(Errno::NFILE),
                file => break file?,
            }
        };
        let stat = fstat(&file)?;
        Ok(Self { file, stat })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}
