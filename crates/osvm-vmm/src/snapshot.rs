//! What a saved machine is: its memory, and the state of all else, a file each in one folder. Pages are taken when they are
//! first written, and what is zero is never written.
//!
//! Clones have sealed copies of both, in memory: what one of them does to the files it was given is seen by no other, and
//! the folder may go.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use crate::{VmmError, holes, memfd};

/// In the folder.
pub(crate) const STATE: &str = "state";
pub(crate) const MEMORY: &str = "memory";

/// Longest state, in bytes. Those of small machines have some 100,000.
const MOST_STATE: u64 = 16 << 20;

/// Bytes that are read at once.
pub(crate) const CHUNK: usize = 1 << 20;
pub(crate) const PAGE: usize = 4096;

/// What a page is held against to know whether it is zero: that is many bytes at a time.
static ZEROS: [u8; PAGE] = [0; PAGE];

pub(crate) const WRITE: &str = "write a saved machine to";
const READ: &str = "read a saved machine from";

/// Sealed copies.
pub(crate) struct Snapshot {
    pub(crate) memory: OwnedFd,
    pub(crate) state: OwnedFd,
}

impl Snapshot {
    pub(crate) async fn load(folder: &Path) -> Result<Self, VmmError> {
        let memory = blocking(READ, folder.join(MEMORY), |path| {
            let memory = create(0)?;
            copy(&File::open(path)?, &memory)?;
            memfd::sealed(memory)
        });
        let state = blocking(READ, folder.join(STATE), |path| {
            let mut state = create(0)?;
            io::copy(&mut File::open(path)?.take(MOST_STATE), &mut state)?;
            memfd::sealed(state)
        });
        Ok(Self { memory: memory.await?, state: state.await? })
    }
}

/// A file of a saved machine, to be written.
pub(crate) fn new_file(path: &Path) -> Result<File, VmmError> {
    File::create_new(path).map_err(|source| failed(WRITE, path, source))
}

/// Writes down one of both.
pub(crate) async fn keep(file: File, folder: &Path, name: &str) -> Result<(), VmmError> {
    blocking(WRITE, folder.join(name), move |path| copy(&file, &File::create_new(path)?)).await
}

/// Guest memory of that size.
pub(crate) fn create(bytes: u64) -> io::Result<File> {
    let memory = memfd::create("osvm-guest-memory")?;
    memory.set_len(bytes)?;
    Ok(memory)
}

pub(crate) async fn blocking<T: Send + 'static>(
    act: &'static str,
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, VmmError> {
    let done = spawn_blocking(move || work(&path).map_err(|source| failed(act, &path, source)));
    done.await.map_err(|error| failed(act, Path::new(MEMORY), error.into()))?
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> VmmError {
    VmmError::File { act, path: path.to_owned(), source }
}

/// Copies what is not zero to an empty file, which gets the same length.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; CHUNK];
    for data in holes::data(from)? {
        let mut place = data.start;
        while place < data.end {
            let chunk = usize::try_from(data.end - place).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..chunk];
            from.read_exact_at(chunk, place)?;
            for (number, page) in chunk.chunks(PAGE).enumerate() {
                if page != &ZEROS[..page.len()] {
                    to.write_all_at(page, place + (number * PAGE) as u64)?;
                }
            }
            place += chunk.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_not_zero_is_copied_and_nothing_else_takes_room() {
        let memory = create(64 << 20).unwrap();
        let places = [0, (5 << 20) + 3 * PAGE as u64, (64 << 20) - PAGE as u64];
        for place in places {
            memory.write_all_at(&[7; PAGE], place).unwrap();
        }
        // Touched, and zero.
        memory.write_all_at(&vec![0; 8 << 20], 16 << 20).unwrap();
        let saved = tempfile::tempfile().unwrap();
        copy(&memory, &saved).unwrap();
        let loaded = create(64 << 20).unwrap();
        copy(&saved, &loaded).unwrap();
        let read = |file: &File| {
            let mut all = vec![0; 64 << 20];
            file.read_exact_at(&mut all, 0).unwrap();
            all
        };
        assert!(read(&memory) == read(&loaded));
        assert_eq!(loaded.metadata().unwrap().blocks() * 512, places.len() as u64 * PAGE as u64);
    }
}
