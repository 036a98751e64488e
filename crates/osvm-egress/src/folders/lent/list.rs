//! Lists of what is in a folder.

use std::mem::MaybeUninit;

use rustix::fs::{FileType, RawDir, RawDirEntry, SeekFrom, seek};
use rustix::io::Errno;

use super::Lent;
use crate::folders::fuse::{Answer, Listed, Listing};
use crate::folders::nodes::{Held, locked};

/// Room for the longest name, and for as many as are worth a call.
const SMALLEST_PART: usize = 1 << 10;
const LARGEST_PART: usize = 64 << 10;

impl Lent {
    /// From where the last part ended: `offset` is what the host's file system calls that place.
    pub(super) fn list(
        &self,
        folder: u64,
        handle: u64,
        (offset, size): (u64, u32),
        with_entries: bool,
    ) -> Result<Answer, Errno> {
        let (folder, handle) = (self.nodes.get(folder)?, self.handles.get(handle)?);
        let mut listing = Listing::new(size, with_entries);
        // An entry takes four times the room of a name alone.
        let part = size as usize / if with_entries { 4 } else { 1 };
        let mut part = vec![MaybeUninit::uninit(); part.clamp(SMALLEST_PART, LARGEST_PART)];
        let _alone = locked(&handle.listing);
        seek(&*handle, SeekFrom::Start(offset))?;
        let mut names = RawDir::new(&*handle, &mut part);
        while let Some(name) = names.next() {
            let name = name?;
            if !listing.has_room_for(name.file_name().to_bytes()) {
                break;
            }
            self.add(&mut listing, &folder, &name, with_entries);
        }
        Ok(listing.done())
    }

    /// With what the guest would look up next. Where that fails, it hears why when it asks.
    fn add(
        &self,
        listing: &mut Listing,
        folder: &Held,
        found: &RawDirEntry<'_>,
        with_entries: bool,
    ) {
        let name = found.file_name().to_bytes();
        let is_looked_up =
            with_entries && !matches!(name, b"." | b"..") && !self.nodes.are_scarce();
        let entered = is_looked_up.then(|| self.enter(folder, name).ok()).flatten();
        let entry = entered.as_ref().map(|entered| self.entry(entered));
        let (inode, next) = (found.ino(), found.next_entry_cookie());
        let listed = Listed { name, inode, next, kind: number(found.file_type()) };
        listing.add(&listed, entry.as_ref());
    }
}

/// As `d_type` has it.
fn number(kind: FileType) -> u32 {
    match kind {
        FileType::Unknown => 0,
        kind => kind.as_raw_mode() >> 12,
    }
}
