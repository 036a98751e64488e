//! Guest memory as a file: an anonymous one while a machine runs, one on disk when it was saved. Pages are taken when
//! they are first written, and what is zero is never written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, ftruncate, memfd_create, seek};
use rustix::io::Errno;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;

/// An empty one.
pub(super) fn create(bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("osvm-guest-memory", flags)?;
    ftruncate(&memory, bytes)?;
    Ok(memory)
}

/// From now on nobody changes it, whoever has it open: it is mapped by clones that must not see each other.
pub(super) fn seal(memory: &OwnedFd) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    Ok(fcntl_add_seals(memory, seals)?)
}

/// Copies what is not zero to an empty file, which gets the same length.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; CHUNK];
    let mut place = 0;
    while let Some(data) = next(from, place, SeekFrom::Data)? {
        let hole = next(from, data, SeekFrom::Hole)?.unwrap_or(length);
        place = data;
        while place < hole {
            let chunk = usize::try_from(hole - place).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..chunk];
            from.read_exact_at(chunk, place)?;
            for (number, page) in chunk.chunks(PAGE).enumerate() {
                if page.iter().any(|byte| *byte != 0) {
                    to.write_all_at(page, place + (number * PAGE) as u64)?;
                }
            }
            place += chunk.len() as u64;
        }
    }
    Ok(())
}

/// Where data, or a hole, begins at or after `place`.
fn next(file: &File, place: u64, which: fn(u64) -> SeekFrom) -> io::Result<Option<u64>> {
    match seek(file.as_fd(), which(place)) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_not_zero_is_copied_and_nothing_else_takes_room() {
        let memory = File::from(create(64 << 20).unwrap());
        let places = [0, (5 << 20) + 3 * PAGE as u64, (64 << 20) - PAGE as u64];
        for place in places {
            memory.write_all_at(&[7; PAGE], place).unwrap();
        }
        // Touched, and zero.
        memory.write_all_at(&vec![0; 8 << 20], 16 << 20).unwrap();
        let saved = tempfile::tempfile().unwrap();
        copy(&memory, &saved).unwrap();
        let loaded = File::from(create(64 << 20).unwrap());
        copy(&saved, &loaded).unwrap();
        let read = |file: &File| {
            let mut all = vec![0; 64 << 20];
            file.read_exact_at(&mut all, 0).unwrap();
            all
        };
        assert!(read(&memory) == read(&loaded));
        assert_eq!(loaded.metadata().unwrap().blocks() * 512, places.len() as u64 * PAGE as u64);
    }

    #[test]
    fn a_sealed_memory_is_changed_by_nobody() {
        let memory = create(PAGE as u64).unwrap();
        seal(&memory).unwrap();
        let memory = File::from(memory);
        assert!(memory.write_all_at(&[1], 0).is_err() && memory.set_len(0).is_err());
    }
}
