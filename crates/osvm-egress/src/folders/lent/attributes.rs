//! Attributes: modes, owners, sizes, times, and those with names.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    XattrFlags, accessat, chmodat, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, fstatvfs,
    ftruncate, utimensat,
};
use rustix::io::Errno;

use super::Lent;
use crate::folders::fuse::{Answer, SetAttributes, When};
use crate::folders::nodes::{Held, locked};

/// The kernel's limits on an attribute, and on the names of all of a file's.
const MAX_VALUE: usize = 64 << 10;

/// The attributes that are programs' own. Every other means something to the host.
const PROGRAMS: &[u8] = b"user.";

impl Lent {
    pub(super) fn attributes(&self, node: u64, handle: Option<u64>) -> Result<Answer, Errno> {
        let stat = match handle.filter(|&handle| handle != 0 || !self.opens_nothing()) {
            Some(handle) => fstat(&*self.handles.get(handle)?)?,
            None => fstat(&self.nodes.get(node)?)?,
        };
        Ok(Answer::attributes(&self.shown(&stat)))
    }

    pub(super) fn set_attributes(&self, node: u64, set: SetAttributes) -> Result<Answer, Errno> {
        let node = self.nodes.get(node)?;
        self.guard.may_write(node.zone())?;
        let before = fstat(&node)?;
        self.require_owner(&before, &set)?;
        if let Some(mode) = set.mode {
            self.set_mode(&node, settable(mode, &before))?;
        }
        if let Some(size) = set.size {
            self.set_size(&node, set.handle, size)?;
        }
        if set.accessed.is_some() || set.modified.is_some() {
            utimensat(&node, "", &timestamps(&set), AtFlags::EMPTY_PATH)?;
        }
        Ok(Answer::attributes(&self.shown(&fstat(&node)?)))
    }

    /// A file is given to whom it is shown to belong to, or to nobody.
    fn require_owner(&self, stat: &Stat, set: &SetAttributes) -> Result<(), Errno> {
        let (uid, gid) = locked(&self.owner).of(stat);
        let is_same = set.uid.is_none_or(|new| new == uid) && set.gid.is_none_or(|new| new == gid);
        if is_same { Ok(()) } else { Err(Errno::PERM) }
    }

    fn set_mode(&self, node: &Held, mode: Mode) -> Result<(), Errno> {
        if node.kind == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        chmodat(&self.descriptors, number(node), mode, AtFlags::empty())
    }

    fn set_size(&self, node: &Held, handle: Option<u64>, size: u64) -> Result<(), Errno> {
        if let Some(handle) = handle {
            return ftruncate(&*self.handles.get(handle)?, size);
        }
        match node.kind {
            FileType::RegularFile => ftruncate(self.reopen(node, OFlags::WRONLY)?, size),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn access(&self, node: u64, mask: u32) -> Result<Answer, Errno> {
        let node = self.nodes.get(node)?;
        let wanted = Access::from_bits_truncate(mask & 0o7);
        if wanted.contains(Access::WRITE_OK) {
            self.guard.may_write(node.zone())?;
        }
        if node.kind != FileType::Symlink {
            accessat(&self.descriptors, number(&node), wanted, AtFlags::empty())?;
        }
        Ok(Answer::empty())
    }

    pub(super) fn statistics(&self, node: u64) -> Result<Answer, Errno> {
        Ok(Answer::statistics(&fstatvfs(&self.nodes.get(node)?)?))
    }

    /// A size of 0 asks for the size.
    pub(super) fn get_attribute(&self, node: u64, name: &[u8], size: u32) -> Result<Answer, Errno> {
        if !name.starts_with(PROGRAMS) {
            return Err(hidden(name));
        }
        let node = self.nodes.get(node)?;
        let file = self.attributed(&node).ok_or(Errno::NODATA)??;
        let mut value = Vec::with_capacity(MAX_VALUE);
        fgetxattr(file, name, spare_capacity(&mut value))?;
        sized(&value, size)
    }

    pub(super) fn list_attributes(&self, node: u64, size: u32) -> Result<Answer, Errno> {
        let node = self.nodes.get(node)?;
        let Some(file) = self.attributed(&node) else { return sized(&[], size) };
        let mut names = Vec::with_capacity(MAX_VALUE);
        match flistxattr(file?, spare_capacity(&mut names)) {
            // Also said where there is nothing to list.
            Err(Errno::OPNOTSUPP) => return sized(&[], size),
            listed => listed?,
        };
        let shown = names.split_inclusive(|&byte| byte == 0);
        let shown: Vec<_> = shown.filter(|name| name.starts_with(PROGRAMS)).collect();
        sized(&shown.concat(), size)
    }

    pub(super) fn set_attribute(
        &self,
        node: u64,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<Answer, Errno> {
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let file = self.to_attribute(node, name)?;
        fsetxattr(file, name, value, flags)?;
        Ok(Answer::empty())
    }

    pub(super) fn remove_attribute(&self, node: u64, name: &[u8]) -> Result<Answer, Errno> {
        fremovexattr(self.to_attribute(node, name)?, name)?;
        Ok(Answer::empty())
    }

    fn to_attribute(&self, node: u64, name: &[u8]) -> Result<OwnedFd, Errno> {
        let node = self.nodes.get(node)?;
        self.guard.may_write(node.zone())?;
        if !name.starts_with(PROGRAMS) {
            return Err(refused(name));
        }
        self.attributed(&node).ok_or(Errno::PERM)?
    }

    /// What has attributes of programs': a descriptor that can't read knows none.
    fn attributed(&self, node: &Held) -> Option<Result<OwnedFd, Errno>> {
        let has_some = matches!(node.kind, FileType::RegularFile | FileType::Directory);
        has_some.then(|| self.reopen(node, OFlags::RDONLY))
    }
}

/// Its name in `/proc/self/fd`.
fn number(node: &Held) -> String {
    node.as_fd().as_raw_fd().to_string()
}

/// Nothing runs as another user because of a guest. A folder whose files are its group's stays so.
fn settable(mode: u32, before: &Stat) -> Mode {
    let is_folder = FileType::from_raw_mode(before.st_mode) == FileType::Directory;
    let special = if is_folder { mode & 0o1000 | before.st_mode & mode & 0o2000 } else { 0 };
    Mode::from_raw_mode(mode & 0o777 | special)
}

fn timestamps(set: &SetAttributes) -> Timestamps {
    Timestamps { last_access: timespec(set.accessed), last_modification: timespec(set.modified) }
}

fn timespec(when: Option<When>) -> Timespec {
    match when {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(When::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(When::At { seconds, nanoseconds }) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.min(999_999_999).into() }
        }
    }
}

fn sized(value: &[u8], size: u32) -> Result<Answer, Errno> {
    match size {
        0 => Ok(Answer::size(value.len() as u32)),
        _ if value.len() > size as usize => Err(Errno::RANGE),
        _ => Ok(Answer::bytes(value)),
    }
}

/// What is the host's is not there; what a file system may lack, such as an access list, is lacking.
fn hidden(name: &[u8]) -> Errno {
    if is_hosts(name) { Errno::NODATA } else { Errno::OPNOTSUPP }
}

fn refused(name: &[u8]) -> Errno {
    if is_hosts(name) { Errno::PERM } else { Errno::OPNOTSUPP }
}

fn is_hosts(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}
