//! The system calls that take a path, and what of their arguments tells whether it is to be written.

use std::os::raw::c_long;

/// One path of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: c_long,
    /// Which argument is the path.
    pub(super) path: usize,
    pub(super) mode: Mode,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    Read,
    Write,
    /// By the flags of `open`, in this argument.
    Flags(usize),
    /// By the flags that a structure begins with, whose address is this argument.
    How(usize),
}

use Mode::{Flags, How, Read, Write};

const fn call(number: c_long, path: usize, mode: Mode) -> Call {
    Call { number, path, mode }
}

pub(super) const CALLS: &[Call] = &[
    call(libc::SYS_openat, 1, Flags(2)),
    call(libc::SYS_openat2, 1, How(2)),
    call(libc::SYS_newfstatat, 1, Read),
    call(libc::SYS_statx, 1, Read),
    call(libc::SYS_faccessat, 1, Read),
    call(libc::SYS_faccessat2, 1, Read),
    call(libc::SYS_chdir, 0, Read),
    call(libc::SYS_mkdirat, 1, Write),
    call(libc::SYS_renameat, 3, Write),
    call(libc::SYS_renameat2, 3, Write),
    call(libc::SYS_truncate, 0, Write),
];

/// What newer processors' systems do without.
#[cfg(target_arch = "x86_64")]
pub(super) const OLD_CALLS: &[Call] = &[
    call(libc::SYS_open, 0, Flags(1)),
    call(libc::SYS_creat, 0, Write),
    call(libc::SYS_stat, 0, Read),
    call(libc::SYS_lstat, 0, Read),
    call(libc::SYS_access, 0, Read),
    call(libc::SYS_mkdir, 0, Write),
    call(libc::SYS_rename, 1, Write),
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OLD_CALLS: &[Call] = &[];

/// The path of a call with that number.
pub(super) fn find(number: c_long) -> Option<&'static Call> {
    CALLS.iter().chain(OLD_CALLS).find(|call| call.number == number)
}

/// Whether flags of `open` ask for more than to read.
pub(super) fn are_for_writing(flags: u64) -> bool {
    let access = flags & libc::O_ACCMODE as u64;
    access != libc::O_RDONLY as u64 || flags & libc::O_CREAT as u64 != 0
}
