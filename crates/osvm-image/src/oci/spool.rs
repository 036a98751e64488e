//! The file in which decompressed layers lie, one behind the other.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::OciError;
use super::tar::{Reader, TarError};

/// Has no name, so that it is gone when this process is.
pub(super) struct Spool {
    file: File,
    folder: PathBuf,
    end: u64,
}

/// Layers begin at a multiple of it, as what is in a tar archive does.
const ALIGNMENT: u64 = 512;

impl Spool {
    pub(super) fn new(folder: &Path) -> Result<Self, OciError> {
        let failed = |source| OciError::Spool { path: folder.to_owned(), source };
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        Ok(Self { file, folder: folder.to_owned(), end: 0 })
    }

    /// What lies in a file already, which stays as it is.
    pub(super) fn over(file: File, path: &Path) -> Result<Self, OciError> {
        let failed = |source| OciError::Read { path: path.to_owned(), source };
        let end = file.metadata().map_err(failed)?.len();
        Ok(Self { file, folder: path.to_owned(), end })
    }

    /// Where the next bytes go.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), OciError> {
        let written = self.file.write_all(bytes);
        written.map_err(|source| OciError::Spool { path: self.folder.clone(), source })?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Another handle, to read from.
    pub(super) fn share(&self) -> Result<File, OciError> {
        let shared = self.file.try_clone();
        shared.map_err(|source| OciError::Spool { path: self.folder.clone(), source })
    }

    /// Makes the next bytes those of another layer.
    pub(super) fn align(&mut self) -> Result<(), OciError> {
        let missing = self.end.next_multiple_of(ALIGNMENT) - self.end;
        self.put(&[0; ALIGNMENT as usize][..usize::try_from(missing).expect("less than a block")])
    }

    pub(super) fn archive(&self, range: Range<u64>) -> Result<Reader<At<'_>>, TarError> {
        Reader::new(At { file: &self.file, at: 0 }, range)
    }

    /// Fills the buffer.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}

/// A place in a file, which others may read at other places.
pub(super) struct At<'a> {
    pub(super) file: &'a File,
    pub(super) at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(distance) => self.at.checked_add_signed(distance),
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
