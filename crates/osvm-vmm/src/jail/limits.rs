//! Resource limits of a VMM.

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// How much a VMM may take of what the kernel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Largest file it can write, in bytes. Further writes fail with EFBIG, and it goes on.
    pub(crate) file_size: Option<u64>,
    /// Most threads of its user, where that user is its own.
    pub(crate) threads: Option<u64>,
    /// Most open descriptors.
    pub(crate) descriptors: u64,
}

/// QEMU has one for each processor of its guest, up to 64 for its disk, and a few more.
pub(crate) const THREADS: u64 = 512;

/// QEMU has some 30 open, Firecracker one for each stream of its guest.
pub(crate) const DESCRIPTORS: u64 = 1024;

impl Limits {
    /// Puts them on the calling process. What is written of memory on a crash would be the guest's,
    /// so nothing is.
    pub(super) fn put_on(self) -> std::io::Result<()> {
        set(Resource::Core, 0)?;
        set(Resource::Nofile, self.descriptors)?;
        if let Some(threads) = self.threads {
            set(Resource::Nproc, threads)?;
        }
        if let Some(bytes) = self.file_size {
            ignore_file_size_signal()?;
            set(Resource::Fsize, bytes)?;
        }
        Ok(())
    }
}

/// Never above what is allowed already: that would take a privilege.
fn set(resource: Resource, limit: u64) -> rustix::io::Result<()> {
    let allowed = rustix::process::getrlimit(resource).maximum;
    let limit = Some(allowed.map_or(limit, |allowed| allowed.min(limit)));
    setrlimit(resource, Rlimit { current: limit, maximum: limit })
}

/// The signal that comes with a write beyond the limit would end the process: it is ignored, which
/// exec keeps.
fn ignore_file_size_signal() -> std::io::Result<()> {
    // SAFETY: sets a disposition that runs no code of ours.
    let old = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if old == libc::SIG_ERR {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
