//! Squashfs metadata: a stream of bytes in compressed blocks of 8 KiB, and tables made of them.

use super::DiskError;
use super::LEVEL;

/// Bytes that are compressed together.
pub(super) const BLOCK: usize = 8192;
/// In a block's header: it is stored as it is.
const STORED: u16 = 1 << 15;

/// Collects a stream.
#[derive(Default)]
pub(super) struct Stream {
    /// Finished blocks, each with its header.
    packed: Vec<u8>,
    block: Vec<u8>,
}

/// A place in a stream: where its block begins, and the offset in the block when unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: u16,
}

impl Place {
    /// As inodes are named everywhere outside of directories.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

impl Stream {
    /// Where the next byte goes.
    pub(super) fn place(&self) -> Result<Place, DiskError> {
        let block = u32::try_from(self.packed.len()).map_err(|_| DiskError::TooMany)?;
        let offset = u16::try_from(self.block.len()).expect("a block is 8 KiB");
        Ok(Place { block, offset })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK - self.block.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.end_block();
            }
        }
    }

    /// All of it, packed.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.end_block();
        }
        self.packed
    }

    fn end_block(&mut self) {
        put_block(&mut self.packed, &self.block);
        self.block.clear();
    }
}

/// A table that is found by the places of its blocks: `bytes` packed, then those places. `at` is
/// where it will lie on the disk; the second result is where the places begin.
pub(super) fn table(bytes: &[u8], at: u64) -> (Vec<u8>, u64) {
    let (mut packed, places) = blocks(bytes, at);
    let found_at = at + packed.len() as u64;
    packed.extend(places);
    (packed, found_at)
}

/// `bytes` packed, and the places of the blocks when the first is at `at`.
pub(super) fn blocks(bytes: &[u8], at: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut packed, mut places) = (Vec::new(), Vec::new());
    for block in bytes.chunks(BLOCK) {
        places.extend((at + packed.len() as u64).to_le_bytes());
        put_block(&mut packed, block);
    }
    (packed, places)
}

fn put_block(out: &mut Vec<u8>, block: &[u8]) {
    let packed =
        zstd::bulk::compress(block, LEVEL).ok().filter(|packed| packed.len() < block.len());
    let (flag, bytes) = packed.as_deref().map_or((STORED, block), |packed| (0, packed));
    let size = u16::try_from(bytes.len()).expect("a block is 8 KiB");
    out.extend((size | flag).to_le_bytes());
    out.extend_from_slice(bytes);
}
