//! Answers, as bytes.

use std::time::Duration;

use rustix::fs::{Stat, StatVfs};
use rustix::io::Errno;

use super::init;
use super::{MAJOR, MAX_BODY, MINOR, OLDEST_MINOR};

/// Size of what stands before an answer's own fields.
const HEADER_LEN: usize = 16;

/// How long a guest may keep a name or attributes. The host changes the folder without a word, so it is short;
/// that a name is absent is not kept at all.
const KEPT: Duration = Duration::from_secs(1);

/// Size of the guest kernel's pages.
const GUEST_PAGE: u32 = 4096;

/// Whom files of other users than the host's process are shown to belong to.
const NOBODY: u32 = 65534;

/// Its header is filled in when it is sent.
#[derive(Debug)]
pub(crate) struct Answer(Vec<u8>);

/// As what the files of the host's user are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) host_uid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) struct Attributes<'a> {
    pub(crate) stat: &'a Stat,
    pub(crate) owner: Owner,
    /// What changes the file next may leave its times as they are. A guest that has not opened the file knows by its
    /// time of change alone that what it has read holds no more: so that time is told a nanosecond off until it can
    /// be relied upon, when the guest finds another and reads anew.
    pub(crate) is_passing: bool,
}

/// A node that a name leads to, counted as looked up.
pub(crate) struct Entry<'a> {
    pub(crate) node: u64,
    pub(crate) attributes: Attributes<'a>,
}

pub(crate) struct Opened {
    pub(crate) handle: u64,
    /// What the guest has read of the file before is still what it says.
    pub(crate) keep_cache: bool,
}

impl Owner {
    pub(crate) fn of(self, stat: &Stat) -> (u32, u32) {
        if stat.st_uid == self.host_uid { (self.uid, self.gid) } else { (NOBODY, NOBODY) }
    }
}

impl Answer {
    pub(crate) fn empty() -> Self {
        Self::with_room(0)
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::with_room(bytes.len()).put(bytes)
    }

    /// What `fill` appends, at most `size` bytes.
    pub(crate) fn filled(
        size: u32,
        fill: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        let mut answer = Self::with_room(size as usize);
        let end = HEADER_LEN + size as usize;
        fill(&mut answer.0, end)?;
        answer.0.truncate(end);
        Ok(answer)
    }

    /// None if that protocol is too old.
    pub(crate) fn init(
        (major, minor): (u32, u32),
        max_readahead: u32,
        flags: u32,
    ) -> Result<Self, Errno> {
        if major < MAJOR || major == MAJOR && minor < OLDEST_MINOR {
            return Err(Errno::PROTO);
        }
        let pages = (MAX_BODY / GUEST_PAGE) as u16;
        let background = init::MAX_BACKGROUND;
        let congested = background / 4 * 3;
        Ok(Self::with_room(64)
            .u32(MAJOR)
            .u32(MINOR)
            .u32(max_readahead)
            .u32(flags & init::TAKEN)
            .put(&background.to_ne_bytes())
            .put(&congested.to_ne_bytes())
            .u32(MAX_BODY)
            .u32(1)
            .put(&pages.to_ne_bytes())
            .put(&[0; 34]))
    }

    pub(crate) fn entry(entry: &Entry<'_>) -> Self {
        Self::with_room(128).with_entry(entry)
    }

    pub(crate) fn attributes(attributes: &Attributes<'_>) -> Self {
        Self::with_room(104).u64(KEPT.as_secs()).u64(0).with_attributes(attributes)
    }

    pub(crate) fn opened(opened: &Opened) -> Self {
        Self::with_room(16).with_opened(opened)
    }

    pub(crate) fn created(entry: &Entry<'_>, opened: &Opened) -> Self {
        Self::with_room(144).with_entry(entry).with_opened(opened)
    }

    pub(crate) fn size(size: u32) -> Self {
        Self::with_room(8).u32(size).u32(0)
    }

    pub(crate) fn offset(offset: u64) -> Self {
        Self::with_room(8).u64(offset)
    }

    pub(crate) fn statistics(of: &StatVfs) -> Self {
        Self::with_room(80)
            .u64(of.f_blocks)
            .u64(of.f_bfree)
            .u64(of.f_bavail)
            .u64(of.f_files)
            .u64(of.f_ffree)
            .u32(of.f_bsize as u32)
            .u32(of.f_namemax as u32)
            .u32(of.f_frsize as u32)
            .put(&[0; 28])
    }

    /// As it is sent.
    pub(crate) fn seal(answer: Result<Self, Errno>, unique: u64) -> Vec<u8> {
        let (mut bytes, error) = match answer {
            Ok(Self(bytes)) => (bytes, 0),
            Err(errno) => (vec![0; HEADER_LEN], -errno.raw_os_error()),
        };
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..8].copy_from_slice(&error.to_ne_bytes());
        bytes[8..HEADER_LEN].copy_from_slice(&unique.to_ne_bytes());
        bytes
    }

    fn with_room(size: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN + size);
        bytes.resize(HEADER_LEN, 0);
        Self(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, number: u32) -> Self {
        self.put(&number.to_ne_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.put(&number.to_ne_bytes())
    }

    fn with_entry(self, entry: &Entry<'_>) -> Self {
        let kept = KEPT.as_secs();
        let numbered = self.u64(entry.node).u64(0).u64(kept).u64(kept).u64(0);
        numbered.with_attributes(&entry.attributes)
    }

    fn with_attributes(self, attributes: &Attributes<'_>) -> Self {
        let Attributes { stat, owner, is_passing } = attributes;
        let (uid, gid) = owner.of(stat);
        self.u64(stat.st_ino)
            .u64(stat.st_size as u64)
            .u64(stat.st_blocks as u64)
            .u64(stat.st_atime as u64)
            .u64(stat.st_mtime as u64)
            .u64(stat.st_ctime as u64)
            .u32(stat.st_atime_nsec as u32)
            .u32(stat.st_mtime_nsec as u32 ^ u32::from(*is_passing))
            .u32(stat.st_ctime_nsec as u32)
            .u32(stat.st_mode)
            .u32(stat.st_nlink as u32)
            .u32(uid)
            .u32(gid)
            .u32(stat.st_rdev as u32)
            .u32(stat.st_blksize as u32)
            .u32(0)
    }

    fn with_opened(self, opened: &Opened) -> Self {
        const KEEP_CACHE: u32 = 1 << 1;
        let flags = if opened.keep_cache { KEEP_CACHE } else { 0 };
        self.u64(opened.handle).u32(flags).u32(0)
    }
}

/// A part of a folder's list.
pub(crate) struct Listing {
    answer: Answer,
    room: usize,
    with_entries: bool,
}

/// What a list says of a name.
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) inode: u64,
    /// Where the list goes on after it.
    pub(crate) next: u64,
    /// As in `d_type`.
    pub(crate) kind: u32,
}

impl Listing {
    const ENTRY_LEN: usize = 128;
    const NAME_LEN: usize = 24;

    pub(crate) fn new(size: u32, with_entries: bool) -> Self {
        Self { answer: Answer::with_room(size as usize), room: size as usize, with_entries }
    }

    pub(crate) fn has_room_for(&self, name: &[u8]) -> bool {
        let entry = if self.with_entries { Self::ENTRY_LEN } else { 0 };
        entry + (Self::NAME_LEN + name.len()).next_multiple_of(8) <= self.room
    }

    /// With no entry, the guest looks the name up when it needs to know more.
    pub(crate) fn add(&mut self, listed: &Listed<'_>, entry: Option<&Entry<'_>>) {
        let before = self.answer.0.len();
        let mut answer = std::mem::replace(&mut self.answer, Answer(Vec::new()));
        answer = match entry {
            _ if !self.with_entries => answer,
            Some(entry) => answer.with_entry(entry),
            None => answer.put(&[0; Self::ENTRY_LEN]),
        };
        let length = listed.name.len();
        answer = answer.u64(listed.inode).u64(listed.next).u32(length as u32).u32(listed.kind);
        answer = answer.put(listed.name);
        let padding = length.next_multiple_of(8) - length;
        self.answer = answer.put(&[0; 8][..padding]);
        self.room -= self.answer.0.len() - before;
    }

    pub(crate) fn done(self) -> Answer {
        self.answer
    }
}
