//! What stands before a file in the archives of layers that osvm writes itself.

use tar::{EntryType, Header};

/// The owner is root and the time zero, wherever it is written.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
