//! Reads tar archives as images use them: ustar, the extended headers of PAX, and GNU's long names
//! and sparse files.
//!
//! Only headers are read; contents are told by their places. What is read is hostile: each header is
//! bounded, and every place lies inside of the archive.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use thiserror::Error;

use crate::disk::tree::Xattr;
use header::Header;
use pax::Pax;

/// One name in an archive.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permissions, twelve bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    /// Those that a disk keeps, in the order of their names.
    pub(crate) xattrs: Vec<Xattr>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File(Place),
    Folder,
    Symlink(Vec<u8>),
    /// Another name of the file with this name.
    Link(Vec<u8>),
    /// `major, minor`
    Character(u64, u64),
    Block,
    Pipe,
}

/// Where the content of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) size: u64,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// All of them lie from here on.
    From(u64),
    /// Only these parts are there, the rest are zeroes.
    Parts(Box<[Part]>),
}

/// A part of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it is in the file.
    pub(crate) at: u64,
    pub(crate) size: u64,
    /// Where it lies.
    pub(crate) from: u64,
}

#[derive(Debug, Error)]
pub enum TarError {
    #[error("read the archive")]
    Read(#[source] io::Error),
    #[error("it is no tar archive")]
    Magic,
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("a header has a wrong checksum")]
    Checksum,
    #[error("a header has a wrong {0}")]
    Field(&'static str),
    #[error("the headers of one entry have over {MAX_EXTENSION} bytes")]
    Extension,
    #[error("a sparse file's map is wrong")]
    Sparse,
    #[error("a sparse file has over {MAX_PARTS} parts")]
    Parts,
    #[error("an entry has the unknown type {0:?}")]
    Type(char),
}

/// Archives are made of blocks of this size.
const BLOCK: usize = 512;
/// Of the headers in front of one: attributes of 64 KiB, and paths.
const MAX_EXTENSION: u64 = 1 << 20;
const MAX_PARTS: usize = 1 << 16;

/// Goes through the headers of an archive.
pub(crate) struct Reader<R> {
    from: BufReader<R>,
    /// Where the next header is, and where the archive ends.
    left: Range<u64>,
    ended: bool,
}

/// What stands in front of a header.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pax: Pax,
    bytes: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// The archive is the `range` of `from`.
    pub(crate) fn new(mut from: R, range: Range<u64>) -> Result<Self, TarError> {
        from.seek(SeekFrom::Start(range.start)).map_err(TarError::Read)?;
        Ok(Self { from: BufReader::with_capacity(8 << 10, from), left: range, ended: false })
    }

    /// Nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        while let Some(header) = self.header()? {
            match header.kind() {
                b'L' | b'K' | b'x' | b'g' => self.extend(&header, &mut extensions)?,
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// Whether the archive said that it is whole.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    fn extend(&mut self, header: &Header, all: &mut Extensions) -> Result<(), TarError> {
        let bytes = self.extension(header, all)?;
        match header.kind() {
            b'L' => all.name = Some(header::text(&bytes)),
            b'K' => all.target = Some(header::text(&bytes)),
            b'x' => all.pax = Pax::parse(&bytes)?,
            // As container runtimes do: what is global is passed over.
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended || self.left.is_empty() {
            return Ok(None);
        }
        let block = self.block()?;
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        Header::parse(block).map(Some)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, TarError> {
        let Extensions { name, target, mut pax, .. } = extensions;
        let name = pax.name().or(name).unwrap_or_else(|| header.name());
        let target = pax.target.take().or(target);
        let target = |short: Vec<u8>| target.unwrap_or(short);
        let kind = match header.kind() {
            b'0' | 0 | b'7' if !name.ends_with(b"/") => Kind::File(self.content(header, &pax)?),
            b'S' => Kind::File(self.content(header, &pax)?),
            b'5' | b'0' | 0 | b'7' => Kind::Folder,
            b'1' => Kind::Link(target(header.target())),
            b'2' => Kind::Symlink(target(header.target())),
            b'3' => Kind::Character(header.major()?, header.minor()?),
            b'4' => Kind::Block,
            b'6' => Kind::Pipe,
            other => return Err(TarError::Type(other.into())),
        };
        Ok(Entry {
            name,
            kind,
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: pax.mtime.map_or_else(|| header.mtime(), Ok)?,
            xattrs: pax.xattrs.into_iter().collect(),
        })
    }

    /// The place of a content, which is passed over.
    fn content(&mut self, header: &Header, pax: &Pax) -> Result<Place, TarError> {
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        let gnu = if header.kind() == b'S' { Some(self.gnu_map(header)?) } else { None };
        let data = self.left.start;
        let end = data.checked_add(stored).filter(|end| *end <= self.left.end);
        let data = data..end.ok_or(TarError::Truncated)?;
        let place = match (gnu, &pax.sparse) {
            (Some((map, size)), _) => sparse::place(&map, size, data.clone())?,
            (None, Some(sparse)) if sparse.map_in_data => self.mapped(sparse.size, data.clone())?,
            (None, Some(sparse)) => sparse::place(&sparse.map, sparse.size, data.clone())?,
            (None, None) => Place { size: stored, bytes: Bytes::From(data.start) },
        };
        let padded = data.end.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX);
        // Blocks are counted from the start of the archive, whose place is a multiple, too.
        self.go_to(padded.min(self.left.end))?;
        Ok(place)
    }

    /// GNU's own map: four parts in the header, the others in blocks behind it.
    fn gnu_map(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64), TarError> {
        let (mut map, mut more) = header.parts()?;
        while more {
            let block = self.block()?;
            more = header::more_parts(&block, &mut map)?;
            if map.len() > MAX_PARTS {
                return Err(TarError::Parts);
            }
        }
        Ok((map, header.real_size()?))
    }

    /// A file whose map stands in front of its data.
    fn mapped(&mut self, size: u64, data: Range<u64>) -> Result<Place, TarError> {
        let mut text = (&mut self.from).take(data.end - data.start);
        let (map, used) = sparse::read_map(&mut text)?;
        self.left.start += used;
        sparse::place(&map, size, data.start + used..data.end)
    }

    /// What belongs to the next header.
    fn extension(&mut self, header: &Header, all: &mut Extensions) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        all.bytes = all.bytes.saturating_add(size).saturating_add(BLOCK as u64);
        if all.bytes > MAX_EXTENSION {
            return Err(TarError::Extension);
        }
        let padded = size.next_multiple_of(BLOCK as u64);
        let mut bytes = self.take(padded)?;
        bytes.truncate(usize::try_from(size).expect("it was bounded"));
        Ok(bytes)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let bytes = self.take(BLOCK as u64)?;
        Ok(bytes.try_into().expect("a block was taken"))
    }

    fn take(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > self.left.end - self.left.start {
            return Err(TarError::Truncated);
        }
        let mut bytes = vec![0; usize::try_from(size).expect("it was bounded")];
        self.from.read_exact(&mut bytes).map_err(TarError::Read)?;
        self.left.start += size;
        Ok(bytes)
    }

    fn go_to(&mut self, at: u64) -> Result<(), TarError> {
        let distance = i64::try_from(at - self.left.start).map_err(|_| TarError::Truncated)?;
        self.from.seek_relative(distance).map_err(TarError::Read)?;
        self.left.start = at;
        Ok(())
    }
}

/// Whether this is how a tar archive begins. An empty one has only zeroes.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    let block = start.get(..BLOCK).and_then(|block| <[u8; BLOCK]>::try_from(block).ok());
    block.is_some_and(|block| Header::parse(block).is_ok())
}

#[cfg(test)]
mod tests;
