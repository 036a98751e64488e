//! How far the kernel reads ahead in a folder.

use std::io;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, openat, statx};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::point::Place;

/// In KiB, where FUSE has 128: a file that is read from its beginning to its end takes a quarter of the requests. No
/// more, because a program that is mapped and jumps about in a large file is read as much at each place.
const AHEAD: &[u8] = b"512";

/// Sets it for what is mounted there. To be called once the host has answered for the folder: that
/// sets the kernel's own, and can't raise it.
pub(super) fn set(place: &Place) -> io::Result<()> {
    let folder = place.make()?;
    // Which device it is, the host need not be asked.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&folder, c"", flags, StatxFlags::empty())?;
    let file = format!("class/bdi/{}:{}/read_ahead_kb", stat.stx_dev_major, stat.stx_dev_minor);
    // Its own view of the kernel: that of the programs can't be written to.
    let sysfs = fsopen(c"sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&sysfs)?;
    let sys = fsmount(&sysfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file = openat(&sys, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, AHEAD)?;
    Ok(())
}
