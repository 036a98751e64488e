//! What the host knows of itself and of its VMs without asking a guest.

use std::fs;
use std::io;
use std::path::Path;

/// A figure of a process's `status`, such as `VmRSS`, in KiB or as it is.
pub(super) fn figure(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes of all files below a folder, as the disk holds them.
pub(super) fn disk_use(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_use(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
