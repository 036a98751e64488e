//! FUSE's messages: bytes to requests, and answers to bytes. Layouts and numbers are those of the kernel's
//! `include/uapi/linux/fuse.h`, protocol 7.31 and later, in the byte order of host and guest, which run on
//! the same processor.

mod answer;
mod ask;

pub(super) use answer::{Answer, Attributes, Entry, Listed, Listing, Opened, Owner};
pub(super) use ask::{Ask, Letter, Malformed, OpenFlags, SetAttributes, When};
pub(super) use init::NO_OPEN_SUPPORT;

/// The node that a lent folder is itself.
pub(super) const ROOT: u64 = 1;

/// Largest read, write or listing.
pub(super) const MAX_BODY: u32 = 1 << 20;

const MAJOR: u32 = 7;
/// The newest protocol whose layouts are known here.
const MINOR: u32 = 38;
/// The oldest: Linux 5.4, with room for [`MAX_BODY`] in a request.
const OLDEST_MINOR: u32 = 31;

/// What is said of the file system when it is mounted.
mod init {
    const ASYNC_READ: u32 = 1 << 0;
    const ATOMIC_O_TRUNC: u32 = 1 << 3;
    const BIG_WRITES: u32 = 1 << 5;
    const AUTO_INVAL_DATA: u32 = 1 << 12;
    const DO_READDIRPLUS: u32 = 1 << 13;
    const READDIRPLUS_AUTO: u32 = 1 << 14;
    const ASYNC_DIO: u32 = 1 << 15;
    /// A file may be read without having been opened: whoever answers OPEN with ENOSYS is never asked again, nor
    /// told of the end.
    pub(crate) const NO_OPEN_SUPPORT: u32 = 1 << 17;
    const PARALLEL_DIROPS: u32 = 1 << 18;
    const MAX_PAGES: u32 = 1 << 22;
    const CACHE_SYMLINKS: u32 = 1 << 23;
    const HANDLE_KILLPRIV_V2: u32 = 1 << 28;

    /// Of what the guest offers, what is taken.
    ///
    /// - The guest writes through: with a write-back cache it would take its own size and times for the truth,
    ///   and what the host changes meanwhile would be lost.
    /// - What it has read is forgotten when the file's times or size have changed (AUTO_INVAL_DATA).
    /// - What a symbolic link says never changes, so it may be kept (CACHE_SYMLINKS).
    /// - The host takes set-user bits away from a file that is written, as it does for any process without
    ///   privileges (HANDLE_KILLPRIV_V2); without this the guest asks for an attribute before every write.
    /// - Locks are absent, so they are the guest's own: they hold among its processes, not against the host's.
    /// - Access lists, labels (SECURITY_CTX), direct access to the host's pages (DAX) are absent.
    pub(super) const TAKEN: u32 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | PARALLEL_DIROPS
        | MAX_PAGES
        | CACHE_SYMLINKS
        | HANDLE_KILLPRIV_V2;

    /// How many requests nobody waits for may be under way. With [`MAX_BODY`] each, their answers fit into
    /// what is kept for a guest that has not seen them.
    pub(super) const MAX_BACKGROUND: u16 = 12;
}
