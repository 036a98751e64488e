//! Reads the files of a tree, each once and as it was when the tree was looked at.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::data::{ContentId, Data, Written, read_block};
use super::tree::{Kind, Tree};
use super::{BLOCK, DiskError};
use crate::files;

/// All contents on the disk, and which of them each place of the tree has.
pub(super) struct Contents {
    pub(super) written: Written,
    pub(super) of: HashMap<usize, ContentId>,
}

/// Writes what the files hold to `out`, which lies at `at` on the disk.
pub(super) fn write(tree: &Tree, out: impl Write, at: u64) -> Result<Contents, DiskError> {
    let mut files = Files { data: Data::new(out, at), repeated: sizes(tree) };
    let mut of = HashMap::new();
    for (place, node) in tree.nodes().iter().enumerate() {
        if matches!(node.kind, Kind::File) {
            of.insert(place, files.add(&tree.path(place), &node.stat)?);
        }
    }
    Ok(Contents { written: files.data.finish().map_err(DiskError::Write)?, of })
}

struct Files<W> {
    data: Data<W>,
    /// How many files have a size: only those of one size can be the same.
    repeated: HashMap<u64, u32>,
}

fn sizes(tree: &Tree) -> HashMap<u64, u32> {
    let mut sizes = HashMap::new();
    for node in tree.nodes().iter().filter(|node| matches!(node.kind, Kind::File)) {
        *sizes.entry(node.stat.size()).or_default() += 1;
    }
    sizes
}

impl<W: Write> Files<W> {
    fn add(&mut self, path: &Path, stat: &Metadata) -> Result<ContentId, DiskError> {
        let mut file = files::open(path).map_err(DiskError::reading(path))?;
        let content = self.add_open(&mut file, stat).map_err(DiskError::reading(path))?;
        // What was written must be what the tree says, or the disk is no state of the folder.
        let now = file.metadata().map_err(DiskError::reading(path))?;
        match content {
            Some(content) if files::is_same(&now, stat) => Ok(content),
            _ => Err(DiskError::Changed { path: path.to_owned() }),
        }
    }

    /// Nothing when the file ends too early or too late.
    fn add_open(&mut self, file: &mut File, stat: &Metadata) -> io::Result<Option<ContentId>> {
        if stat.size() < BLOCK as u64 {
            let bytes = read_block(file)?;
            let whole = bytes.len() as u64 == stat.size();
            return if whole { self.data.add_small(&bytes).map(Some) } else { Ok(None) };
        }
        if self.repeated[&stat.size()] == 1 {
            return self.add_large(file, stat);
        }
        let digest = digest(file)?;
        if let Some(content) = self.data.known(&digest) {
            return Ok(Some(content));
        }
        file.rewind()?;
        let content = self.add_large(file, stat)?;
        content.inspect(|content| self.data.remember(digest, *content));
        Ok(content)
    }

    fn add_large(&mut self, file: &mut File, stat: &Metadata) -> io::Result<Option<ContentId>> {
        let size = stat.size();
        // Only a file with holes has fewer blocks than bytes; all others need not be asked.
        let sparse = stat.blocks().saturating_mul(512) < size;
        let content = self.data.start_content();
        let (mut at, mut hole_until) = (0, 0);
        while at < size {
            let end = size.min(at + BLOCK as u64);
            if sparse && hole_until <= at {
                hole_until = next_data(&*file, at, size)?;
            }
            if end <= hole_until {
                self.data.add_hole(content, end - at);
            } else {
                file.seek(SeekFrom::Start(at))?;
                let block = read_block(file)?;
                if block.len() as u64 != end - at {
                    return Ok(None);
                }
                self.data.add_block(content, block)?;
            }
            at = end;
        }
        Ok(Some(content))
    }
}

fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    loop {
        let block = read_block(file)?;
        if block.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(&block);
    }
}

/// Where the next byte is that is not in a hole.
fn next_data(file: impl AsFd, at: u64, size: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(size),
        // A file system that does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
        Err(error) => Err(error.into()),
    }
}
