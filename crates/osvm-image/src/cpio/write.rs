//! Writes a `newc` archive. Everything belongs to root and dates from 1970: the same files give the
//! same bytes.

use std::io::{self, Write};

use super::{HEADER, MAGIC, S_IFDIR, S_IFREG, TRAILER, padding};

/// Entries are written as they come; a folder comes before what is in it.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    pub fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path.trim_start_matches('/'), S_IFDIR | mode, &[])
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path.trim_start_matches('/'), S_IFREG | mode, bytes)
    }

    /// Ends the archive, padded so that another may follow.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "file is over 4 GiB");
        let size = u32::try_from(bytes.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.entries += 1;
        let links = if mode & S_IFDIR == 0 { 1 } else { 2 };
        // inode, mode, uid, gid, links, mtime, size, four device numbers, name's size, checksum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = Vec::with_capacity(HEADER + name.len() + 4);
        header.extend_from_slice(MAGIC);
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(name.as_bytes());
        header.push(0);
        self.put(&header)?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..padding(bytes.len())])
    }
}
