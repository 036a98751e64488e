//! The stream in which QEMU writes a machine, without those pages of its memory that a template has as well.
//!
//! QEMU fills the memory of a machine that it wakes with the pages that it reads, and leaves the others as they are: there
//! they are mapped from the template, as a clone's are. So a stream with fewer pages is one that QEMU reads like any other.
//!
//! ```text
//! stream   = magic version [configuration] { section } devices
//! section  = (start number name instance version | part number | end number) { record } (end of records) footer number
//! record   = page's place and flags [block's name, unless it is that of the record before] (zero's byte | page)
//! ```
//!
//! Whoever has broken into QEMU writes here what he likes. What is not known is passed on as it is, with all that comes
//! after it: then no more is left out.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::arguments::MEMORY;
use crate::holes;
use crate::snapshot::PAGE;

const CONFIGURATION: u8 = 0x07;
const START: u8 = 0x01;
const PART: u8 = 0x02;
const END: u8 = 0x03;
const FOOTER: u8 = 0x7e;

/// Of a record's first number, what is not a page's place.
const FLAGS: u64 = PAGE as u64 - 1;
const ZERO: u64 = 0x02;
const SIZES: u64 = 0x04;
const WHOLE: u64 = 0x08;
const END_OF_RECORDS: u64 = 0x10;
/// It is of the block that the record before it was of.
const CONTINUES: u64 = 0x20;

/// Copies a stream, but for pages that the template has. One that is cut off is copied as far as it goes.
pub fn copy_changes(from: impl Read, to: impl Write, template: &File) -> io::Result<()> {
    let template = Template::of(template)?;
    let mut copy = Copy { from, to, template, block: Vec::new(), told: Vec::new() };
    match copy.memory().and_then(|()| copy.rest()) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        copied => copied?,
    }
    copy.to.flush()
}

struct Copy<'a, R, W> {
    from: R,
    to: W,
    template: Template<'a>,
    /// Whose pages are read.
    block: Vec<u8>,
    /// Whose pages were written last.
    told: Vec<u8>,
}

/// The template's memory.
struct Template<'a> {
    memory: &'a File,
    length: u64,
    /// What is no hole, which most of it is; and before QEMU has looked at it, which fills them.
    data: Vec<Range<u64>>,
}

impl<R: Read, W: Write> Copy<'_, R, W> {
    /// Up to the first thing that is neither memory nor known.
    fn memory(&mut self) -> io::Result<()> {
        self.pass(8)?;
        let mut kind = self.pass_byte()?;
        if kind == CONFIGURATION {
            let length = u32::from_be_bytes(self.pass_array()?);
            self.pass(length.into())?;
            kind = self.pass_byte()?;
        }
        while matches!(kind, START | PART | END) {
            self.pass(4)?;
            if kind == START {
                let name = self.pass_name()?;
                self.pass(8)?;
                if name != b"ram" {
                    break;
                }
            }
            if !self.records()? || self.pass_byte()? != FOOTER {
                break;
            }
            self.pass(4)?;
            kind = self.pass_byte()?;
        }
        Ok(())
    }

    /// Up to the end of a section's; or to one that is not known, whose head is passed.
    fn records(&mut self) -> io::Result<bool> {
        loop {
            let head = u64::from_be_bytes(self.array()?);
            match head & FLAGS & !CONTINUES {
                ZERO => self.page::<1>(head)?,
                WHOLE => self.page::<PAGE>(head)?,
                SIZES => {
                    self.to.write_all(&head.to_be_bytes())?;
                    self.sizes(head & !FLAGS)?;
                }
                // What follows may be a name.
                other if head & CONTINUES == 0 => {
                    self.to.write_all(&head.to_be_bytes())?;
                    return Ok(other == END_OF_RECORDS);
                }
                _ => {
                    self.head(head)?;
                    return Ok(false);
                }
            }
        }
    }

    /// Of all blocks, which have so many bytes together.
    fn sizes(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            self.pass_name()?;
            let block = u64::from_be_bytes(self.pass_array()?);
            bytes = bytes.saturating_sub(block);
        }
        Ok(())
    }

    /// With so many bytes: all of a page, or the one that all of its bytes are.
    fn page<const BYTES: usize>(&mut self, head: u64) -> io::Result<()> {
        if head & CONTINUES == 0 {
            self.block = self.name()?;
        }
        let content = self.array::<BYTES>()?;
        if self.block == MEMORY.as_bytes() && self.template.has(head & !FLAGS, &content)? {
            return Ok(());
        }
        self.head(head)?;
        self.to.write_all(&content)
    }

    /// Of a page of the block. The one before it that is left may be of another.
    fn head(&mut self, head: u64) -> io::Result<()> {
        if self.told == self.block {
            return self.to.write_all(&(head | CONTINUES).to_be_bytes());
        }
        self.told.clone_from(&self.block);
        self.to.write_all(&(head & !CONTINUES).to_be_bytes())?;
        write_name(&mut self.to, &self.told)
    }

    fn name(&mut self) -> io::Result<Vec<u8>> {
        let [length] = self.array()?;
        let mut name = vec![0; length.into()];
        self.from.read_exact(&mut name)?;
        Ok(name)
    }

    fn pass_name(&mut self) -> io::Result<Vec<u8>> {
        let name = self.name()?;
        write_name(&mut self.to, &name)?;
        Ok(name)
    }

    fn array<const BYTES: usize>(&mut self) -> io::Result<[u8; BYTES]> {
        let mut bytes = [0; BYTES];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn pass_array<const BYTES: usize>(&mut self) -> io::Result<[u8; BYTES]> {
        let bytes = self.array()?;
        self.to.write_all(&bytes)?;
        Ok(bytes)
    }

    fn pass_byte(&mut self) -> io::Result<u8> {
        self.pass_array().map(|[byte]| byte)
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.from.by_ref().take(bytes), &mut self.to)?;
        if passed == bytes { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn rest(&mut self) -> io::Result<()> {
        io::copy(&mut self.from, &mut self.to).map(drop)
    }
}

impl<'a> Template<'a> {
    fn of(memory: &'a File) -> io::Result<Self> {
        Ok(Self { memory, length: memory.metadata()?.len(), data: holes::data(memory)? })
    }

    /// With one byte that all are, or with all.
    fn has(&self, place: u64, content: &[u8]) -> io::Result<bool> {
        let ends = place.saturating_add(PAGE as u64);
        if ends > self.length {
            return Ok(false);
        }
        let mut page = [0; PAGE];
        let data = self.data.partition_point(|data| data.end <= place);
        if self.data.get(data).is_some_and(|data| data.start < ends) {
            self.memory.read_exact_at(&mut page, place)?;
        }
        Ok(match content {
            [byte] => page == [*byte; PAGE],
            whole => page == *whole,
        })
    }
}

fn write_name(to: &mut impl Write, name: &[u8]) -> io::Result<()> {
    to.write_all(&[u8::try_from(name.len()).map_err(io::Error::other)?])?;
    to.write_all(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that is no guest's memory, as that of firmware.
    const OTHER: &str = "pc.bios";
    const PAGES: usize = 4;

    /// A stream, and what memory becomes of it that was `memory` before.
    #[derive(Default)]
    struct Stream(Vec<u8>);

    impl Stream {
        fn begin(kind: u8) -> Self {
            let mut stream = Self(b"QEVM\0\0\0\x03".to_vec());
            stream.bytes(&[CONFIGURATION, 0, 0, 0, 7]).bytes(b"microvm");
            stream.section(START).name("ram").bytes(&[0, 0, 0, 0, 0, 0, 0, 4]);
            let pages = (PAGES * PAGE) as u64;
            stream.number((2 * pages) | SIZES);
            for block in [MEMORY, OTHER] {
                stream.name(block).number(pages);
            }
            stream.ends().section(kind);
            stream
        }

        fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
            self.0.extend(bytes);
            self
        }

        fn number(&mut self, number: u64) -> &mut Self {
            self.bytes(&number.to_be_bytes())
        }

        fn name(&mut self, name: &str) -> &mut Self {
            self.bytes(&[name.len() as u8]).bytes(name.as_bytes())
        }

        fn section(&mut self, kind: u8) -> &mut Self {
            self.bytes(&[kind, 0, 0, 0, 2])
        }

        fn ends(&mut self) -> &mut Self {
            self.number(END_OF_RECORDS).bytes(&[FOOTER, 0, 0, 0, 2])
        }

        /// All bytes of a page.
        fn page(&mut self, block: Option<&str>, page: usize, byte: u8) -> &mut Self {
            let kind = if byte == 0 { ZERO } else { WHOLE };
            let continues = if block.is_some() { 0 } else { CONTINUES };
            self.number((page * PAGE) as u64 | kind | continues);
            if let Some(block) = block {
                self.name(block);
            }
            match byte {
                0 => self.bytes(&[0]),
                byte => self.bytes(&[byte; PAGE]),
            }
        }

        fn changes(&self, template: &[u8; PAGES]) -> Self {
            let file = tempfile::tempfile().unwrap();
            for (number, byte) in template.iter().enumerate() {
                file.write_all_at(&[*byte; PAGE], (number * PAGE) as u64).unwrap();
            }
            let mut changes = Self::default();
            copy_changes(&self.0[..], &mut changes.0, &file).unwrap();
            changes
        }
    }

    #[test]
    fn pages_that_the_template_has_are_left_out_and_no_others() {
        let mut all = Stream::begin(PART);
        // The same, another, none any more, none then either.
        all.page(Some(MEMORY), 0, 1).page(None, 1, 9).page(None, 2, 0).page(None, 3, 0).ends();
        all.section(END).ends().bytes(b"\x04devices");
        let mut changes = Stream::begin(PART);
        changes.page(Some(MEMORY), 1, 9).page(None, 2, 0).ends();
        changes.section(END).ends().bytes(b"\x04devices");
        assert_eq!(all.changes(&[1, 2, 3, 0]).0, changes.0);
    }

    #[test]
    fn a_page_that_is_left_has_its_blocks_name_whichever_went_before_it() {
        let mut all = Stream::begin(PART);
        all.page(Some(OTHER), 0, 1).page(None, 1, 2).page(Some(MEMORY), 0, 1).page(None, 1, 9);
        all.page(Some(OTHER), 2, 3).page(Some(MEMORY), 2, 3).page(Some(OTHER), 3, 0).ends();
        let mut changes = Stream::begin(PART);
        changes.page(Some(OTHER), 0, 1).page(None, 1, 2).page(Some(MEMORY), 1, 9);
        changes.page(Some(OTHER), 2, 3).page(None, 3, 0).ends();
        assert_eq!(all.changes(&[1, 2, 3, 0]).0, changes.0);
    }

    #[test]
    fn what_is_not_known_is_passed_on_with_all_that_follows() {
        let unknown = 0x40;
        let mut all = Stream::begin(PART);
        all.page(Some(OTHER), 0, 1).page(Some(MEMORY), 0, 1);
        all.number(PAGE as u64 | unknown | CONTINUES).bytes(b"?").page(None, 0, 1).ends();
        let mut changes = Stream::begin(PART);
        changes.page(Some(OTHER), 0, 1);
        // Of the block that was left out.
        changes.number(PAGE as u64 | unknown).name(MEMORY).bytes(b"?").page(None, 0, 1).ends();
        assert_eq!(all.changes(&[1, 2, 3, 0]).0, changes.0);

        let mut other = Stream::default();
        other.bytes(b"QEVM\0\0\0\x03").section(START).name("block").bytes(&[0; 8]);
        other.page(Some(MEMORY), 0, 1).ends();
        assert_eq!(other.changes(&[1, 2, 3, 0]).0, other.0);
    }

    #[test]
    fn no_page_beyond_the_template_is_held_against_it() {
        let mut all = Stream::begin(PART);
        all.page(Some(MEMORY), PAGES, 0).number(!FLAGS | ZERO | CONTINUES).bytes(&[0]).ends();
        assert_eq!(all.changes(&[0; PAGES]).0, all.0);
    }

    #[test]
    fn a_stream_that_is_cut_off_anywhere_is_copied_up_to_there() {
        let mut all = Stream::begin(PART);
        all.page(Some(OTHER), 0, 1).page(Some(MEMORY), 1, 9).ends();
        for length in 0..=all.0.len() {
            let cut = Stream(all.0[..length].to_vec()).changes(&[1; PAGES]);
            assert!(all.0.starts_with(&cut.0), "{length}");
            assert!(cut.0.len() + PAGE + 32 > length, "{length}");
        }
    }
}
