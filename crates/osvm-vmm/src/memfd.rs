//! Files in memory, under a name that shows in `/proc`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// An empty one.
pub(crate) fn create(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(memfd_create(name, flags)?.into())
}

/// From now on nobody changes it, whoever has it open.
pub(crate) fn sealed(file: File) -> io::Result<OwnedFd> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sealed_memory_is_changed_by_nobody() {
        let memory = create("osvm-test").unwrap();
        memory.set_len(4096).unwrap();
        let memory = File::from(sealed(memory).unwrap());
        assert!(memory.write_all_at(&[1], 0).is_err() && memory.set_len(0).is_err());
    }
}
