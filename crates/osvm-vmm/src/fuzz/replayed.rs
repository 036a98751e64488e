//! What becomes of a stream that QEMU writes a machine in, read as simply as can be: what the one that is written for real is
//! held against.

use std::collections::BTreeMap;

use crate::snapshot::PAGE;

/// What QEMU's memory would become of a stream that is fit for [`suspended`], and where its reader would stop. It knows some
/// records that `suspended` doesn't, by which a block is meant that was named before; other devices have no content.
#[derive(PartialEq)]
pub struct Replayed<'a> {
    /// By block and place.
    pages: BTreeMap<(&'a [u8], u64), Vec<u8>>,
    /// That was named last.
    block: &'a [u8],
    /// Nothing, where the stream is cut off.
    rest: &'a [u8],
}

impl<'a> Replayed<'a> {
    /// Over a template's memory.
    pub fn of(stream: &'a [u8], memory: &[u8]) -> Self {
        let pages = (0..).step_by(PAGE).zip(memory.chunks(PAGE));
        let pages = pages.map(|(place, page)| ((&b"mem0"[..], place), page.to_vec()));
        let mut replayed = Self { pages: pages.collect(), block: b"", rest: stream };
        let _ = replayed.read();
        replayed
    }

    /// As far as it can be, which it always ends by.
    fn read(&mut self) -> Option<()> {
        self.take(8)?;
        loop {
            match self.number(1)? {
                0x07 => {
                    let length = self.number(4)?;
                    self.take(length)?;
                }
                0x08 => {
                    let length = self.number(4)? & 0xffff;
                    self.take(length)?;
                }
                kind @ (0x01..=0x04) => self.section(kind)?,
                _ => return None,
            }
        }
    }

    fn section(&mut self, kind: u64) -> Option<()> {
        self.take(4)?;
        let begins = matches!(kind, 0x01 | 0x04);
        let name = if begins { self.name()? } else { b"ram" };
        self.take(if begins { 8 } else { 0 })?;
        if name == b"ram" {
            self.records()?;
        }
        (self.number(5)? >> 32 == 0x7e).then_some(())
    }

    fn records(&mut self) -> Option<()> {
        loop {
            let head = self.number(8)?;
            match head & 0xfff & !0x20 {
                0x02 => self.page(head, 1)?,
                0x08 => self.page(head, PAGE)?,
                0x04 => self.sizes(head & !0xfff)?,
                0x10 => return Some(()),
                // Of other channels, which are flushed.
                0x200 => {}
                _ => return None,
            }
        }
    }

    fn page(&mut self, head: u64, bytes: usize) -> Option<()> {
        if head & 0x20 == 0 {
            self.block = self.name()?;
        }
        let page = self.take(bytes as u64)?.repeat(PAGE / bytes);
        self.pages.insert((self.block, head & !0xfff), page);
        Some(())
    }

    fn sizes(&mut self, mut bytes: u64) -> Option<()> {
        while bytes > 0 {
            self.name()?;
            bytes = bytes.saturating_sub(self.number(8)?);
        }
        Some(())
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let length = self.number(1)?;
        self.take(length)
    }

    fn number(&mut self, bytes: u64) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let taken = usize::try_from(bytes).ok().and_then(|bytes| self.rest.split_at_checked(bytes));
        let (taken, rest) = taken.unwrap_or((self.rest, b""));
        self.rest = rest;
        (taken.len() as u64 == bytes).then_some(taken)
    }
}
