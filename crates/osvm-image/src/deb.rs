//! Debian packages, as deb(5) describes them: an `ar` archive with a compressed tar archive of the files. Nothing is
//! unpacked here. A package is a stranger's: who reads it sets bounds.

mod ar;

use std::cell::Cell;
use std::io::{self, Read};

use crate::decompress;

/// Longest that headers and names may be between two files.
const MAX_NAMES: u64 = 1 << 20;

/// The tar archive of the files, decompressed as it is read; none in what is no package. The end of the package must be
/// reached for damage to be noticed: see [`finish`].
pub(crate) fn files<'a>(package: impl Read + 'a) -> io::Result<Option<Box<dyn Read + 'a>>> {
    let Some(data) = ar::member(package, "data.tar")? else { return Ok(None) };
    decompress::reader(Whole(data)).map(Some)
}

/// Reads what follows the last file.
pub(crate) fn finish(mut files: impl Read) -> io::Result<()> {
    io::copy(&mut files, &mut io::sink()).map(drop)
}

/// Fails where the member ends before its size says so.
struct Whole<R>(io::Take<R>);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        if count == 0 && !buffer.is_empty() && self.0.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// How much may be read until the next file: a name is held in memory whole, and only its own header tells how long
/// it is.
pub(crate) struct Ration(Cell<u64>);

impl Ration {
    pub(crate) fn new() -> Self {
        Self(Cell::new(MAX_NAMES))
    }

    /// Of an archive whose reading ends early when more is read.
    pub(crate) fn of<R: Read>(&self, from: R) -> impl Read {
        Rationed { from, left: &self.0 }
    }

    /// A file of that size begins.
    pub(crate) fn grant(&self, size: u64) {
        self.0.set(size.saturating_add(MAX_NAMES));
    }
}

struct Rationed<'a, R> {
    from: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.by_ref().take(self.left.get()).read(buffer)?;
        self.left.set(self.left.get() - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::ar::tests::archive;
    use super::*;
    use crate::decompress::tests::gzip;

    #[test]
    fn a_package_that_is_cut_anywhere_is_noticed() {
        for data in [gzip(&[7; 3000]), vec![7; 3000]] {
            let whole = archive(&[("debian-binary", b"2.0\n"), ("data.tar", &data)]);
            let read = |bytes: &[u8]| files(bytes)?.map_or(Ok(()), finish);
            read(&whole).unwrap();
            for length in (132..whole.len() - 1).step_by(7) {
                assert!(read(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
            }
        }
    }
}
