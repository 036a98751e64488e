//! The contents of files: cut into blocks, packed on all processors, written in their order.
//!
//! Files smaller than a block share blocks (*fragments*), holes take no space, and the same content
//! is kept once.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::{BLOCK, LEVEL};

/// In a block's size: it is stored as it is.
const STORED: u32 = 1 << 24;
/// Blocks that are packed at a time: bounds the memory that is needed.
const BATCH: usize = 32;
const MAX_THREADS: usize = 8;

/// Where the content of a file is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Of its first block.
    pub(super) start: u64,
    /// Of the blocks as stored; nothing for a hole.
    pub(super) blocks: Vec<u32>,
    /// Fragment and offset in it.
    pub(super) fragment: Option<(u32, u32)>,
    /// Bytes in holes.
    pub(super) sparse: u64,
}

/// A block that several small files share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fragment {
    pub(super) start: u64,
    pub(super) size: u32,
}

/// A name for a content among the others.
pub(super) type ContentId = usize;

/// Writes contents one after another.
pub(super) struct Data<W> {
    out: W,
    /// Where the next block goes.
    at: u64,
    waiting: Vec<(Owner, Vec<u8>)>,
    contents: Vec<Content>,
    fragments: Vec<Fragment>,
    fragment: Vec<u8>,
    known: HashMap<[u8; 32], ContentId>,
}

#[derive(Debug, Clone, Copy)]
enum Owner {
    Content(ContentId, usize),
    Fragment(usize),
}

/// What has been written.
pub(super) struct Written {
    pub(super) contents: Vec<Content>,
    pub(super) fragments: Vec<Fragment>,
    pub(super) end: u64,
}

impl<W: Write> Data<W> {
    /// `at` is the place of `out` on the disk.
    pub(super) fn new(out: W, at: u64) -> Self {
        Self {
            out,
            at,
            waiting: Vec::new(),
            contents: Vec::new(),
            fragments: Vec::new(),
            fragment: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// A content that is known to be there already.
    pub(super) fn known(&self, digest: &[u8; 32]) -> Option<ContentId> {
        self.known.get(digest).copied()
    }

    pub(super) fn remember(&mut self, digest: [u8; 32], content: ContentId) {
        self.known.insert(digest, content);
    }

    /// A content smaller than a block.
    pub(super) fn add_small(&mut self, bytes: &[u8]) -> io::Result<ContentId> {
        let digest = Sha256::digest(bytes).into();
        if let Some(content) = self.known(&digest) {
            return Ok(content);
        }
        let content = self.start_content();
        if !bytes.is_empty() {
            if self.fragment.len() + bytes.len() > BLOCK {
                self.end_fragment()?;
            }
            let place = (number(self.fragments.len()), number(self.fragment.len()));
            self.contents[content].fragment = Some(place);
            self.fragment.extend_from_slice(bytes);
        }
        self.remember(digest, content);
        Ok(content)
    }

    pub(super) fn start_content(&mut self) -> ContentId {
        self.contents.push(Content::default());
        self.contents.len() - 1
    }

    /// The next block of the content that was started last; only its last one may be short.
    pub(super) fn add_block(&mut self, content: ContentId, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.iter().all(|byte| *byte == 0) {
            self.add_hole(content, bytes.len() as u64);
            return Ok(());
        }
        let blocks = &mut self.contents[content].blocks;
        let owner = Owner::Content(content, blocks.len());
        blocks.push(0);
        self.wait(owner, bytes)
    }

    /// A block of nothing but zeroes.
    pub(super) fn add_hole(&mut self, content: ContentId, size: u64) {
        self.contents[content].blocks.push(0);
        self.contents[content].sparse += size;
    }

    pub(super) fn finish(mut self) -> io::Result<Written> {
        if !self.fragment.is_empty() {
            self.end_fragment()?;
        }
        self.flush()?;
        Ok(Written { contents: self.contents, fragments: self.fragments, end: self.at })
    }

    fn end_fragment(&mut self) -> io::Result<()> {
        let owner = Owner::Fragment(self.fragments.len());
        self.fragments.push(Fragment::default());
        let bytes = std::mem::take(&mut self.fragment);
        self.wait(owner, bytes)
    }

    fn wait(&mut self, owner: Owner, bytes: Vec<u8>) -> io::Result<()> {
        self.waiting.push((owner, bytes));
        if self.waiting.len() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        for ((owner, bytes), packed) in waiting.iter().zip(pack(&waiting)?) {
            let (flag, bytes) = match &packed {
                Some(packed) => (0, packed),
                None => (STORED, bytes),
            };
            let size = number(bytes.len()) | flag;
            match *owner {
                Owner::Content(content, block) => {
                    self.contents[content].place(block, self.at, size);
                }
                Owner::Fragment(fragment) => {
                    self.fragments[fragment] = Fragment { start: self.at, size };
                }
            }
            self.out.write_all(bytes)?;
            self.at += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Content {
    fn place(&mut self, block: usize, at: u64, size: u32) {
        // The first block that is no hole is where all of them begin.
        if self.blocks.iter().all(|size| *size == 0) {
            self.start = at;
        }
        self.blocks[block] = size;
    }
}

/// The blocks packed, where that makes them smaller.
fn pack(blocks: &[(Owner, Vec<u8>)]) -> io::Result<Vec<Option<Vec<u8>>>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let share = blocks.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let shares: Vec<_> =
            blocks.chunks(share).map(|blocks| scope.spawn(|| pack_share(blocks))).collect();
        let mut packed = Vec::new();
        for share in shares {
            packed.extend(share.join().expect("packing does not panic")?);
        }
        Ok(packed)
    })
}

fn pack_share(blocks: &[(Owner, Vec<u8>)]) -> io::Result<Vec<Option<Vec<u8>>>> {
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    let pack = |(_, bytes): &(Owner, Vec<u8>)| {
        let packed = packer.compress(bytes)?;
        Ok(Some(packed).filter(|packed| packed.len() < bytes.len()))
    };
    blocks.iter().map(pack).collect()
}

/// Reads up to a block; less only at the end.
pub(super) fn read_block(from: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    from.take(BLOCK as u64).read_to_end(&mut block)?;
    Ok(block)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("blocks, and files on a disk, are fewer")
}
