//! The stream in which QEMU writes a machine, without those pages of its memory that a template has as well.
//!
//! QEMU fills the memory of a machine that it wakes with the pages that it reads, and leaves the others as they are: there
//! they are mapped from the template, as a clone's are. So a stream with fewer pages is one that QEMU reads like any other.
//!
//! ```text
//! stream   = magic version [configuration] { section | command } devices
//! section  = (start number name instance version | part number | end number) { record } (end of records) footer number
//! record   = page's place and flags [block's name, unless it is that of the record before] (zero's byte | page)
//! ```
//!
//! Whoever has broken into QEMU writes here what he likes. What is not known is passed on as it is, with all that comes
//! after it: then no more is left out. It means the same there as in the whole stream, since pages that name their block
//! are never left out: whatever continues, in this section or a later one, is of the block that it was of. QEMU names one
//! only where another begins, so that is a page for each of a few blocks.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::arguments::MEMORY;
use crate::holes;
use crate::snapshot::PAGE;

/// The magic, and the version of what follows.
const FORM: [u8; 8] = *b"QEVM\0\0\0\x03";
/// Memory's instance, and the version of its records.
const RECORDS: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 4];

const CONFIGURATION: u8 = 0x07;
const START: u8 = 0x01;
const PART: u8 = 0x02;
const END: u8 = 0x03;
const COMMAND: u8 = 0x08;
const FOOTER: u8 = 0x7e;

/// The command that QEMU 10.0 and later put before the last of memory. Others discard pages, or hold a stream of their own.
const SWITCHOVER_START: u16 = 11;

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
    let written = vec![false; usize::try_from(template.length).map_err(io::Error::other)? / PAGE];
    let mut copy = Copy { from, to, template, of_memory: false, written };
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
    /// Whether the block that was named last is the guest's memory.
    of_memory: bool,
    /// For each of the template's pages, whether one was written in its place, which may have been another.
    written: Vec<bool>,
}

/// The template's memory.
struct Template<'a> {
    memory: &'a File,
    length: u64,
    /// What is no hole, which most of it is.
    data: Vec<Range<u64>>,
}

impl<R: Read, W: Write> Copy<'_, R, W> {
    /// Up to the first thing that is neither memory nor known.
    fn memory(&mut self) -> io::Result<()> {
        if self.pass_array()? != FORM {
            return Ok(());
        }
        let mut kind = self.pass_byte()?;
        if kind == CONFIGURATION {
            let length = u32::from_be_bytes(self.pass_array()?);
            self.pass(length.into())?;
            kind = self.pass_byte()?;
        }
        while self.part(kind)? {
            kind = self.pass_byte()?;
        }
        Ok(())
    }

    /// A section or a command. Whether it is known, and so where it ends.
    fn part(&mut self, kind: u8) -> io::Result<bool> {
        match kind {
            START => Ok(self.begins_memory()? && self.section()?),
            PART | END => {
                self.pass(4)?;
                self.section()
            }
            COMMAND => self.command(),
            _ => Ok(false),
        }
    }

    fn begins_memory(&mut self) -> io::Result<bool> {
        self.pass(4)?;
        Ok(self.pass_name()? == b"ram" && self.pass_array()? == RECORDS)
    }

    fn section(&mut self) -> io::Result<bool> {
        if !self.records()? || self.pass_byte()? != FOOTER {
            return Ok(false);
        }
        self.pass(4)?;
        Ok(true)
    }

    fn command(&mut self) -> io::Result<bool> {
        let command = u16::from_be_bytes(self.pass_array()?);
        let length = u16::from_be_bytes(self.pass_array()?);
        self.pass(length.into())?;
        Ok(command == SWITCHOVER_START)
    }

    /// Up to the end of a section's; or to one that is not known, whose head is passed.
    fn records(&mut self) -> io::Result<bool> {
        loop {
            let head = u64::from_be_bytes(self.array()?);
            match head & FLAGS & !CONTINUES {
                ZERO => self.page::<1>(head)?,
                WHOLE => self.page::<PAGE>(head)?,
                SIZES => {
                    self.write_head(head)?;
                    self.sizes(head & !FLAGS)?;
                }
                other => {
                    self.write_head(head)?;
                    return Ok(other == END_OF_RECORDS);
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
        let place = head & !FLAGS;
        if head & CONTINUES == 0 {
            self.write_head(head)?;
            self.of_memory = self.pass_name()? == MEMORY.as_bytes();
            self.note_written(place);
            return self.pass(BYTES as u64);
        }
        let content = self.array::<BYTES>()?;
        if self.is_there_already(place, &content)? {
            return Ok(());
        }
        self.note_written(place);
        self.write_head(head)?;
        self.to.write_all(&content)
    }

    fn write_head(&mut self, head: u64) -> io::Result<()> {
        self.to.write_all(&head.to_be_bytes())
    }

    fn note_written(&mut self, place: u64) {
        let page = page_at(place).filter(|_| self.of_memory);
        if let Some(written) = page.and_then(|page| self.written.get_mut(page)) {
            *written = true;
        }
    }

    /// Once everything has been read that was written so far.
    fn is_there_already(&self, place: u64, content: &[u8]) -> io::Result<bool> {
        let written = page_at(place).and_then(|page| self.written.get(page));
        Ok(self.of_memory && written == Some(&false) && self.template.has(place, content)?)
    }

    fn pass_name(&mut self) -> io::Result<Vec<u8>> {
        let mut name = vec![0; self.pass_byte()?.into()];
        self.from.read_exact(&mut name)?;
        self.to.write_all(&name)?;
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

fn page_at(place: u64) -> Option<usize> {
    usize::try_from(place / PAGE as u64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Replayed;

    /// A block that is no guest's memory, as that of firmware.
    const OTHER: &str = "pc.bios";
    const PAGES: usize = 5;

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
            self.number(END_OF_RECORDS).footer()
        }

        fn footer(&mut self) -> &mut Self {
            self.bytes(&[FOOTER, 0, 0, 0, 2])
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

        /// From which the same becomes of memory.
        fn changes(&self, template: &[u8; PAGES]) -> Self {
            let memory = template.map(|byte| [byte; PAGE]).concat();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&memory, 0).unwrap();
            let mut changes = Self::default();
            copy_changes(&self.0[..], &mut changes.0, &file).unwrap();
            assert!(Replayed::of(&self.0, &memory) == Replayed::of(&changes.0, &memory));
            changes
        }
    }

    #[test]
    fn pages_that_the_template_has_are_left_out_and_no_others() {
        let mut all = Stream::begin(PART);
        // What names the block, the same, another, none any more, none then either.
        all.page(Some(MEMORY), 0, 1).page(None, 1, 2).page(None, 2, 9).page(None, 3, 0);
        all.page(None, 4, 0).ends().section(END).ends().bytes(b"\x04devices");
        let mut changes = Stream::begin(PART);
        changes.page(Some(MEMORY), 0, 1).page(None, 2, 9).page(None, 3, 0).ends();
        changes.section(END).ends().bytes(b"\x04devices");
        assert_eq!(all.changes(&[1, 2, 3, 4, 0]).0, changes.0);
    }

    #[test]
    fn a_page_that_names_its_block_stays_and_so_do_pages_of_other_blocks() {
        let mut all = Stream::begin(PART);
        all.page(Some(OTHER), 0, 1).page(None, 1, 2).page(Some(MEMORY), 0, 1).page(None, 1, 2);
        all.page(Some(OTHER), 2, 3).page(None, 3, 0).page(Some(MEMORY), 2, 3).ends();
        let mut changes = Stream::begin(PART);
        changes.page(Some(OTHER), 0, 1).page(None, 1, 2).page(Some(MEMORY), 0, 1);
        changes.page(Some(OTHER), 2, 3).page(None, 3, 0).page(Some(MEMORY), 2, 3).ends();
        assert_eq!(all.changes(&[1, 2, 3, 0, 0]).0, changes.0);
    }

    #[test]
    fn a_page_that_comes_again_as_the_template_has_it_takes_the_place_of_what_was_written() {
        let mut all = Stream::begin(PART);
        all.page(Some(MEMORY), 0, 9).page(None, 1, 9).page(None, 2, 3).ends();
        all.section(END).page(None, 0, 1).page(None, 1, 2).page(None, 2, 3).ends();
        let mut changes = Stream::begin(PART);
        changes.page(Some(MEMORY), 0, 9).page(None, 1, 9).ends();
        changes.section(END).page(None, 0, 1).page(None, 1, 2).ends();
        assert_eq!(all.changes(&[1, 2, 3, 0, 0]).0, changes.0);
    }

    #[test]
    fn pages_are_left_out_behind_the_command_that_newer_qemu_puts_before_the_last_of_them() {
        let switchover = [COMMAND, 0, 11, 0, 0];
        let mut all = Stream::begin(PART);
        all.page(Some(OTHER), 0, 1).page(Some(MEMORY), 0, 1).page(None, 1, 2).ends();
        all.bytes(&switchover).section(END).page(None, 2, 3).page(None, 3, 9).ends();
        let mut changes = Stream::begin(PART);
        changes.page(Some(OTHER), 0, 1).page(Some(MEMORY), 0, 1).ends();
        changes.bytes(&switchover).section(END).page(None, 3, 9).ends();
        assert_eq!(all.changes(&[1, 2, 3, 4, 0]).0, changes.0);
    }

    #[test]
    fn what_is_not_known_is_passed_on_with_all_that_follows() {
        let [mut record, mut flush, mut section, mut command] =
            std::array::from_fn(|_| Stream::begin(PART));
        record.number(PAGE as u64 | 0x40 | CONTINUES).bytes(b"?");
        flush.number(0x200).page(None, 3, 9);
        section.ends().bytes(&[0x04, 0, 0, 0, 2]).name("block").bytes(&[0; 8]).footer();
        section.section(END);
        // A ping.
        command.ends().bytes(&[COMMAND, 0, 2, 0, 4]).bytes(b"ping").section(END);
        let known = Stream::begin(PART).0.len();
        for unknown in [record, flush, section, command] {
            let [mut all, mut changes] = std::array::from_fn(|_| Stream::begin(PART));
            all.page(Some(OTHER), 0, 1).page(Some(MEMORY), 0, 1).page(None, 1, 2);
            changes.page(Some(OTHER), 0, 1).page(Some(MEMORY), 0, 1);
            for stream in [&mut all, &mut changes] {
                stream.bytes(&unknown.0[known..]).page(None, 1, 9).page(None, 2, 3).ends();
            }
            assert_eq!(all.changes(&[1, 2, 3, 4, 0]).0, changes.0);
        }
    }

    #[test]
    fn a_stream_of_another_form_is_passed_on_whole() {
        let mut all = Stream::begin(PART);
        all.page(Some(MEMORY), 0, 1).page(None, 1, 2).ends();
        assert_ne!(all.changes(&[1, 2, 3, 4, 0]).0, all.0);
        let name = all.0.windows(4).position(|bytes| bytes == b"\x03ram").unwrap();
        // Versions of the stream and of its memory, and the name of what is no memory.
        for place in [7, name + 11, name + 1] {
            let mut other = Stream(all.0.clone());
            other.0[place] += 1;
            assert_eq!(other.changes(&[1, 2, 3, 4, 0]).0, other.0);
        }
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
