//! Contents: files opened, read, written, and what else is done by a handle.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, SeekFrom, Stat, copy_file_range, fallocate, fdatasync,
    fstat, fsync, openat, seek,
};
use rustix::io::{Errno, pread, pwrite};

use super::Lent;
use super::names::place;
use crate::folders::found::Found;
use crate::folders::fuse::{Answer, MAX_BODY, OpenFlags, Opened};
use crate::folders::nodes::{Handle, Held, Version};

/// After so long, a file's next change has another time than its last: the coarsest times, FAT's, are even
/// seconds.
const SETTLED: Duration = Duration::from_secs(2);

impl Lent {
    /// Where nothing is written, files are read without being opened, which saves the guest half of what a small
    /// file costs.
    pub(super) fn open(&self, node: u64, flags: OpenFlags) -> Result<Answer, Errno> {
        if self.opens_nothing() {
            return Err(Errno::NOSYS);
        }
        Ok(Answer::opened(&self.opened(&self.nodes.get(node)?, flags)?))
    }

    fn opened(&self, node: &Held, flags: OpenFlags) -> Result<Opened, Errno> {
        require_file(node)?;
        if flags.writes() {
            self.guard.may_write(node.zone())?;
        }
        let file = self.reopen(node, flags.flags)?;
        let stat = fstat(&file)?;
        let keep_cache = node.opened(Version::of(&stat), has_settled(&stat));
        Ok(Opened { handle: self.handles.add(file, node.clone())?, keep_cache })
    }

    pub(super) fn opens_nothing(&self) -> bool {
        self.opens_nothing.load(Ordering::SeqCst)
    }

    /// What the guest has opened, or a file that it reads without.
    fn handle(&self, (node, number): (u64, u64)) -> Result<Arc<Handle>, Errno> {
        if number != 0 || !self.opens_nothing() {
            return self.handles.get(number);
        }
        let node = self.nodes.get(node)?;
        require_file(&node)?;
        Ok(Arc::new(Handle::new(self.reopen(&node, OFlags::RDONLY)?, node)))
    }

    pub(super) fn open_folder(&self, node: u64) -> Result<Answer, Errno> {
        let node = self.nodes.get(node)?;
        if node.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let file = self.reopen(&node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Answer::opened(&Opened { handle: self.handles.add(file, node)?, keep_cache: false }))
    }

    pub(super) fn create(
        &self,
        parent: u64,
        name: &[u8],
        flags: OpenFlags,
        mode: Mode,
    ) -> Result<Answer, Errno> {
        let parent = self.nodes.get(parent)?;
        self.guard.may_make(place(&parent, name), FileType::RegularFile)?;
        let _names = self.among_others();
        match self.create_new(&parent, name, flags, mode) {
            Err(Errno::EXIST) if !flags.exclusive => self.open_existing(&parent, name, flags),
            created => created,
        }
    }

    fn create_new(
        &self,
        parent: &Held,
        name: &[u8],
        flags: OpenFlags,
        mode: Mode,
    ) -> Result<Answer, Errno> {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags.flags | new, mode)?;
        // By the file, not by its name, which may be another's already.
        let found = self.found(&file)?;
        let entered = self.enter_found(found, parent, name)?;
        let added = self.nodes.get(entered.0).and_then(|node| self.handles.add(file, node));
        let handle = added.inspect_err(|_| self.nodes.forget(entered.0, 1))?;
        Ok(Answer::created(&self.entry(&entered), &Opened { handle, keep_cache: false }))
    }

    fn open_existing(&self, parent: &Held, name: &[u8], flags: OpenFlags) -> Result<Answer, Errno> {
        let entered = self.enter(parent, name)?;
        let opened = self.nodes.get(entered.0).and_then(|node| self.opened(&node, flags));
        let opened = opened.inspect_err(|_| self.nodes.forget(entered.0, 1))?;
        Ok(Answer::created(&self.entry(&entered), &opened))
    }

    fn found(&self, file: &OwnedFd) -> Result<Found, Errno> {
        let held = self.reopen(file, OFlags::PATH)?;
        Ok(Found { stat: fstat(&held)?, file: held })
    }

    pub(super) fn release(&self, handle: u64) -> Answer {
        self.handles.release(handle);
        Answer::empty()
    }

    /// Short only where the file ends: the guest takes what is missing for its end.
    pub(super) fn read(&self, file: (u64, u64), offset: u64, size: u32) -> Result<Answer, Errno> {
        let file = self.handle(file)?;
        Answer::filled(size, |bytes, end| {
            let start = bytes.len();
            while bytes.len() < end {
                let at = offset.checked_add((bytes.len() - start) as u64).ok_or(Errno::INVAL)?;
                match pread(&*file, spare_capacity(bytes), at) {
                    Ok(0) => break,
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) if bytes.len() > start => break,
                    Err(errno) => return Err(errno),
                }
            }
            Ok(())
        })
    }

    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<Answer, Errno> {
        self.guard.may_change_anything()?;
        let file = self.handles.get(handle)?;
        let mut written = 0;
        while written < data.len() {
            let at = offset.checked_add(written as u64).ok_or(Errno::FBIG)?;
            match pwrite(&*file, &data[written..], at) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(Answer::size(written as u32))
    }

    pub(super) fn sync(&self, file: (u64, u64), data_only: bool) -> Result<Answer, Errno> {
        let file = self.handle(file)?;
        let synced = if data_only { fdatasync(&*file) } else { fsync(&*file) };
        synced.map(|()| Answer::empty())
    }

    pub(super) fn allocate(
        &self,
        handle: u64,
        (offset, length): (u64, u64),
        mode: FallocateFlags,
    ) -> Result<Answer, Errno> {
        self.guard.may_change_anything()?;
        fallocate(&*self.handles.get(handle)?, mode, offset, length)?;
        Ok(Answer::empty())
    }

    pub(super) fn seek(
        &self,
        file: (u64, u64),
        offset: u64,
        is_hole: bool,
    ) -> Result<Answer, Errno> {
        let to = if is_hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        Ok(Answer::offset(seek(&*self.handle(file)?, to)?))
    }

    /// A part at a time: a worker is not kept for longer than by a write.
    pub(super) fn copy(
        &self,
        (from, mut from_offset): (u64, u64),
        (to, mut to_offset): (u64, u64),
        length: u64,
    ) -> Result<Answer, Errno> {
        const MOST: u64 = 64 * MAX_BODY as u64;
        self.guard.may_change_anything()?;
        let (from, to) = (self.handles.get(from)?, self.handles.get(to)?);
        let length = length.min(MOST) as usize;
        let (from_at, to_at) = (Some(&mut from_offset), Some(&mut to_offset));
        let copied = copy_file_range(&*from, from_at, &*to, to_at, length)?;
        Ok(Answer::size(copied as u32))
    }
}

/// What is a device to the host, or somebody's pipe, is not opened, whatever it is to the guest.
fn require_file(node: &Held) -> Result<(), Errno> {
    match node.kind {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}

/// Whether whatever changes the file from now on changes its times too.
pub(super) fn has_settled(stat: &Stat) -> bool {
    let changed = Duration::new(stat.st_ctime.max(0) as u64, 0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) > SETTLED
}
