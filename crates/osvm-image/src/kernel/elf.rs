//! The little of ELF that is needed: segments and notes of a kernel, one section of a module.
//! Sizes come from hostile files, so each is bounded before anything is allocated.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

/// What was read is no ELF file for this machine, or not a whole one.
#[derive(Debug, Error)]
pub enum ElfError {
    #[error("it is not an ELF file")]
    Magic,
    #[error("it is not a 64-bit ELF file for x86-64")]
    Machine,
    #[error("it is cut short")]
    Truncated,
    #[error("its {0} is damaged")]
    Damaged(&'static str),
    #[error("it can't be read")]
    Read(#[source] io::Error),
}

pub(super) const MAGIC: &[u8; 4] = b"\x7fELF";

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Note of a kernel that starts in 32-bit protected mode without a boot loader: owner `Xen`,
/// type `XEN_ELFNOTE_PHYS32_ENTRY` of the Linux sources' `include/xen/interface/elfnote.h`.
const PVH_NOTE: (&[u8], u32) = (b"Xen\0", 18);

/// Kernels have about five.
const MAX_SEGMENTS: u16 = 64;
/// The distributions' kernels have less than one kilobyte.
const MAX_NOTES: u64 = 64 * 1024;
/// Strings that name sections, and the contents that are asked for.
const MAX_SECTION: u64 = 1024 * 1024;

/// A part of the file that is loaded, or holds notes.
struct Segment {
    kind: u32,
    offset: u64,
    size: u64,
}

/// An opened ELF file.
pub(super) struct Elf<F> {
    file: F,
    length: u64,
    header: [u8; HEADER],
}

impl<F: Read + Seek> Elf<F> {
    pub(super) fn open(mut file: F) -> Result<Self, ElfError> {
        let length = file.seek(SeekFrom::End(0)).map_err(ElfError::Read)?;
        let mut elf = Self { file, length, header: [0; HEADER] };
        let mut magic = [0; MAGIC.len()];
        elf.read_at(0, &mut magic).map_err(|_| ElfError::Magic)?;
        if &magic != MAGIC {
            return Err(ElfError::Magic);
        }
        let mut header = [0; HEADER];
        elf.read_at(0, &mut header)?;
        elf.header = header;
        let (class, order) = (header[4], header[5]);
        if (class, order) != (2, 1) || u16_at(&header, 18) != MACHINE_X86_64 {
            return Err(ElfError::Machine);
        }
        Ok(elf)
    }

    /// Checks that every loaded byte is in the file, and tells whether it has a PVH entry point.
    pub(super) fn check_kernel(&mut self) -> Result<bool, ElfError> {
        let segments = self.segments()?;
        if !segments.iter().any(|segment| segment.kind == PT_LOAD) {
            return Err(ElfError::Damaged("table of segments"));
        }
        let end = |segment: &Segment| segment.offset.checked_add(segment.size);
        if !segments.iter().all(|segment| end(segment).is_some_and(|end| end <= self.length)) {
            return Err(ElfError::Truncated);
        }
        for notes in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
            if has_pvh_note(&self.bytes(notes.offset, notes.size, MAX_NOTES, "notes")?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bytes of the section called `name`.
    pub(super) fn section(&mut self, name: &str) -> Result<Option<Vec<u8>>, ElfError> {
        let (offset, count) = (u64_at(&self.header, 40), u16_at(&self.header, 60));
        let names = usize::from(u16_at(&self.header, 62));
        let size = u64::from(count) * SECTION as u64;
        let table = self.bytes(offset, size, u64::from(u16::MAX) * SECTION as u64, "sections")?;
        let sections: Vec<_> = table.chunks_exact(SECTION).collect();
        let Some(names) = sections.get(names) else {
            return Err(ElfError::Damaged("table of sections"));
        };
        let names = self.section_bytes(names)?;
        let wanted = |section: &&&[u8]| {
            let start = usize::try_from(u32_at(section, 0)).unwrap_or(usize::MAX);
            let rest = names.get(start..).unwrap_or_default().strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"\0"))
        };
        sections.iter().find(wanted).map(|section| self.section_bytes(section)).transpose()
    }

    fn segments(&mut self) -> Result<Vec<Segment>, ElfError> {
        let (offset, size, count) =
            (u64_at(&self.header, 32), u16_at(&self.header, 54), u16_at(&self.header, 56));
        if usize::from(size) != SEGMENT || count > MAX_SEGMENTS {
            return Err(ElfError::Damaged("table of segments"));
        }
        let limit = u64::from(MAX_SEGMENTS) * SEGMENT as u64;
        let table = self.bytes(offset, u64::from(count) * SEGMENT as u64, limit, "segments")?;
        let segment = |bytes: &[u8]| Segment {
            kind: u32_at(bytes, 0),
            offset: u64_at(bytes, 8),
            size: u64_at(bytes, 32),
        };
        Ok(table.chunks_exact(SEGMENT).map(segment).collect())
    }

    fn section_bytes(&mut self, section: &[u8]) -> Result<Vec<u8>, ElfError> {
        self.bytes(u64_at(section, 24), u64_at(section, 32), MAX_SECTION, "section")
    }

    fn bytes(
        &mut self,
        offset: u64,
        size: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, ElfError> {
        if size > limit {
            return Err(ElfError::Damaged(what));
        }
        let mut bytes = vec![0; usize::try_from(size).expect("the limit is small")];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), ElfError> {
        self.file.seek(SeekFrom::Start(offset)).map_err(|_| ElfError::Truncated)?;
        self.file.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ElfError::Truncated,
            _ => ElfError::Read(error),
        })
    }
}

fn has_pvh_note(mut notes: &[u8]) -> bool {
    const HEADER: usize = 12;
    while notes.len() >= HEADER {
        let lengths = [u32_at(notes, 0), u32_at(notes, 4)].map(|length| length as usize);
        let [name, content] = lengths.map(|length| length.next_multiple_of(4));
        let kind = u32_at(notes, 8);
        if kind == PVH_NOTE.1 && notes[HEADER..].starts_with(PVH_NOTE.0) && lengths[0] == 4 {
            return true;
        }
        notes = notes.get(HEADER + name + content..).unwrap_or_default();
    }
    false
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Small ELF files for the tests of this folder.
#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A kernel of one loaded segment with `content` and, if asked, a PVH note.
    pub(in crate::kernel) fn kernel(content: &[u8], pvh: bool) -> Vec<u8> {
        let kind: u32 = if pvh { 18 } else { 6 };
        let mut note = [4_u32, 4, kind].map(u32::to_le_bytes).concat();
        note.extend(b"Xen\0\0\0\0\x01");
        let start = (HEADER + 2 * SEGMENT) as u64;
        let mut file = header(HEADER as u64, 2, 0, 0);
        file.extend(segment(PT_NOTE, start, note.len() as u64));
        file.extend(segment(PT_LOAD, start + note.len() as u64, content.len() as u64));
        file.extend(note);
        file.extend(content);
        file
    }

    /// A module whose `.modinfo` holds the given `key=value` strings.
    pub(in crate::kernel) fn module(info: &[&str]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let info: Vec<u8> =
            info.iter().flat_map(|line| [line.as_bytes(), b"\0"].concat()).collect();
        let start = HEADER as u64;
        let (info_size, names_size) = (info.len() as u64, names.len() as u64);
        let mut file = header(0, 0, start + info_size + names_size, 3);
        file.extend(info);
        file.extend(names);
        file.extend([0; SECTION]);
        file.extend(section(1, start, info_size));
        file.extend(section(10, start + info_size, names_size));
        file
    }

    fn header(segments: u64, segment_count: u16, sections: u64, section_count: u16) -> Vec<u8> {
        let mut header = vec![0; HEADER];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18..20].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        header[32..40].copy_from_slice(&segments.to_le_bytes());
        header[40..48].copy_from_slice(&sections.to_le_bytes());
        header[54..56].copy_from_slice(&56_u16.to_le_bytes());
        header[56..58].copy_from_slice(&segment_count.to_le_bytes());
        header[60..62].copy_from_slice(&section_count.to_le_bytes());
        header[62..64].copy_from_slice(&section_count.saturating_sub(1).to_le_bytes());
        header
    }

    fn segment(kind: u32, offset: u64, size: u64) -> Vec<u8> {
        let mut segment = vec![0; SEGMENT];
        segment[..4].copy_from_slice(&kind.to_le_bytes());
        segment[8..16].copy_from_slice(&offset.to_le_bytes());
        segment[32..40].copy_from_slice(&size.to_le_bytes());
        segment
    }

    fn section(name: u32, offset: u64, size: u64) -> Vec<u8> {
        let mut section = vec![0; SECTION];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[24..32].copy_from_slice(&offset.to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
        section
    }

    fn check(bytes: &[u8]) -> Result<bool, ElfError> {
        Elf::open(Cursor::new(bytes))?.check_kernel()
    }

    #[test]
    fn a_pvh_note_is_found() {
        assert!(check(&kernel(b"code", true)).unwrap());
        assert!(!check(&kernel(b"code", false)).unwrap());
    }

    #[test]
    fn a_kernel_cut_anywhere_is_refused() {
        let whole = kernel(b"code", true);
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
        }
    }

    #[test]
    fn a_section_is_found_by_name() {
        let bytes = module(&["name=x", "depends="]);
        let mut elf = Elf::open(Cursor::new(bytes)).unwrap();
        assert_eq!(elf.section(".modinfo").unwrap().unwrap(), b"name=x\0depends=\0");
        assert_eq!(elf.section(".text").unwrap(), None);
    }

    #[test]
    fn another_processors_kernel_is_refused() {
        let mut bytes = kernel(b"code", true);
        bytes[18] = 183;
        assert!(matches!(check(&bytes), Err(ElfError::Machine)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<(usize, u8)>(), 0..40)) {
            for mut bytes in [kernel(b"code", true), module(&["depends=a,b"])] {
                for (at, byte) in &noise {
                    // The first bytes stay, or nothing else would ever be looked at.
                    let at = 6 + at % (bytes.len() - 6);
                    bytes[at] = *byte;
                }
                let _ = check(&bytes);
                let _ = Elf::open(Cursor::new(bytes)).and_then(|mut elf| elf.section(".modinfo"));
            }
        }
    }
}
