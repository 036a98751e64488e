//! Reads the files of a tree, each once and as it was when the tree was looked at.

use std::collections::HashMap;
use std::io::{self, SeekFrom, Write};

use sha2::{Digest as _, Sha256};

use super::data::{self, ContentId, Data, Written, read_block};
use super::tree::{Content, Kind, Stat, Tree};
use super::{BLOCK, DiskError};

/// All contents on the disk, and which of them each place of the tree has.
pub(super) struct Contents {
    pub(super) written: Written,
    of: Vec<Option<ContentId>>,
}

impl Contents {
    /// Of the file at a place.
    pub(super) fn at(&self, place: usize) -> &data::Content {
        &self.written.contents[self.of[place].expect("every file was written")]
    }
}

/// Writes what the files hold to `out`, which lies at `at` on the disk.
pub(super) fn write(tree: &dyn Tree, out: impl Write, at: u64) -> Result<Contents, DiskError> {
    let mut files = Files { data: Data::new(out, at), repeated: sizes(tree) };
    let mut of = vec![None; tree.nodes().len()];
    for (place, node) in tree.nodes().iter().enumerate() {
        if matches!(node.kind, Kind::File) {
            of[place] = Some(files.add(tree, place)?);
        }
    }
    Ok(Contents { written: files.data.finish().map_err(DiskError::Write)?, of })
}

struct Files<W> {
    data: Data<W>,
    /// How many files have a size: only those of one size can be the same.
    repeated: HashMap<u64, u32>,
}

fn sizes(tree: &dyn Tree) -> HashMap<u64, u32> {
    let mut sizes = HashMap::new();
    for node in tree.nodes().iter().filter(|node| matches!(node.kind, Kind::File)) {
        *sizes.entry(node.stat.size).or_default() += 1;
    }
    sizes
}

impl<W: Write> Files<W> {
    fn add(&mut self, tree: &dyn Tree, at: usize) -> Result<ContentId, DiskError> {
        let reading = |source| DiskError::Read { path: tree.path(at), source };
        let mut file = tree.open(at).map_err(reading)?;
        let content = self.add_open(&mut *file, &tree.nodes()[at].stat).map_err(reading)?;
        // What was written must be what the tree says, or the disk is no state of the folder.
        match content {
            Some(content) if file.is_same().map_err(reading)? => Ok(content),
            _ => Err(DiskError::Changed { path: tree.path(at) }),
        }
    }

    /// Nothing when the file ends too early or too late.
    fn add_open(&mut self, file: &mut dyn Content, stat: &Stat) -> io::Result<Option<ContentId>> {
        if stat.size < BLOCK as u64 {
            let bytes = read_block(file)?;
            let whole = bytes.len() as u64 == stat.size;
            return if whole { self.data.add_small(&bytes).map(Some) } else { Ok(None) };
        }
        if self.repeated[&stat.size] == 1 {
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

    fn add_large(&mut self, file: &mut dyn Content, stat: &Stat) -> io::Result<Option<ContentId>> {
        let size = stat.size;
        let content = self.data.start_content();
        let (mut at, mut hole_until) = (0, 0);
        while at < size {
            let end = size.min(at + BLOCK as u64);
            if stat.sparse && hole_until <= at {
                hole_until = file.next_data(at)?;
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

fn digest(file: &mut dyn Content) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    loop {
        let block = read_block(file)?;
        if block.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(&block);
    }
}
