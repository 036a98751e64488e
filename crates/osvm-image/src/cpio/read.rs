//! Reads a `newc` archive from hostile hands: nothing is allocated by what a header claims.

use std::io::{self, Read};

use thiserror::Error;

use super::{HEADER, MAGIC, S_IFMT, S_IFREG, TRAILER, padding};

/// Entry after entry. Each content must be taken or skipped before the next entry is asked for.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    ended: bool,
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without a leading slash.
    pub name: String,
    /// Type and permissions, as `stat` has them.
    pub mode: u32,
    pub size: u32,
}

#[derive(Debug, Error)]
pub enum CpioError {
    #[error("it is no newc cpio archive")]
    Magic,
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("the header of an entry is damaged")]
    Header,
    #[error("entry {0:?} leaves the root")]
    Path(String),
    #[error("entry {name:?} of {size} bytes is too large, the limit is {limit}")]
    TooLarge { name: String, size: u32, limit: usize },
    #[error("it can't be read")]
    Read(#[source] io::Error),
    #[error("it can't be copied")]
    Write(#[source] io::Error),
}

/// Longer than any path that Linux takes.
const MAX_NAME: usize = 4096;

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Self {
        Self { from, ended: false }
    }

    /// The next entry; none after the last one.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend its contents")]
    pub fn next(&mut self) -> Result<Option<Entry>, CpioError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        let (magic, fields) = header.split_at_mut(MAGIC.len());
        self.fill(magic)?;
        if magic != MAGIC {
            return Err(CpioError::Magic);
        }
        self.fill(fields)?;
        let (mode, size) = (number(&header, 1)?, number(&header, 6)?);
        let name = self.name(number(&header, 11)? as usize)?;
        if name == TRAILER {
            self.ended = true;
            return Ok(None);
        }
        let name = inside(name)?;
        Ok(Some(Entry { name, mode, size }))
    }

    /// The entry's content, if it is not over `limit` bytes.
    pub fn content(&mut self, entry: &Entry, limit: usize) -> Result<Vec<u8>, CpioError> {
        let size = entry.size as usize;
        if size > limit {
            let name = entry.name.clone();
            return Err(CpioError::TooLarge { name, size: entry.size, limit });
        }
        let mut bytes = vec![0; size];
        self.fill(&mut bytes)?;
        self.pass(padding(size) as u64)?;
        Ok(bytes)
    }

    pub fn skip(&mut self, entry: &Entry) -> Result<(), CpioError> {
        let size = entry.size as usize;
        self.pass(size as u64 + padding(size) as u64)
    }

    fn name(&mut self, length: usize) -> Result<String, CpioError> {
        if !(1..=MAX_NAME).contains(&length) {
            return Err(CpioError::Header);
        }
        let mut name = vec![0; length];
        self.fill(&mut name)?;
        if name.pop() != Some(0) {
            return Err(CpioError::Header);
        }
        // A name at the end may lack its padding only if nothing follows it.
        let ends = name == TRAILER.as_bytes();
        match self.pass(padding(HEADER + length) as u64) {
            Err(CpioError::Truncated) if ends => {}
            other => other?,
        }
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), CpioError> {
        self.from.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CpioError::Truncated,
            _ => CpioError::Read(error),
        })
    }

    fn pass(&mut self, count: u64) -> Result<(), CpioError> {
        let passed = io::copy(&mut self.from.by_ref().take(count), &mut io::sink());
        match passed.map_err(CpioError::Read)? {
            passed if passed == count => Ok(()),
            _ => Err(CpioError::Truncated),
        }
    }
}

impl Entry {
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
}

/// The header's number at `index`, eight hexadecimal digits each.
fn number(header: &[u8; HEADER], index: usize) -> Result<u32, CpioError> {
    let start = MAGIC.len() + 8 * index;
    let digits = std::str::from_utf8(&header[start..start + 8]).map_err(|_| CpioError::Header)?;
    u32::from_str_radix(digits, 16).map_err(|_| CpioError::Header)
}

fn inside(name: String) -> Result<String, CpioError> {
    if name.split('/').any(|part| part == "..") {
        return Err(CpioError::Path(name));
    }
    Ok(name.trim_start_matches('/').trim_start_matches("./").to_owned())
}
