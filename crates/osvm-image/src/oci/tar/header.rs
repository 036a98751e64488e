//! A header: 512 bytes, described in `pax(1)` of POSIX and, for GNU's part, in "Basic Tar Format" of
//! GNU tar's manual.

use std::ops::Range;

use super::{BLOCK, TarError};

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const TARGET: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const GNU_PARTS: Range<usize> = 386..482;
const GNU_MORE: usize = 482;
const GNU_SIZE: Range<usize> = 483..495;
/// Of a block that only has parts.
const MORE_PARTS: Range<usize> = 0..504;
const MORE_MORE: usize = 504;
/// Offset and size, twelve bytes each.
const PART: usize = 24;

pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self, TarError> {
        let header = Self(block);
        let sum = header.number(CHECKSUM, "checksum").map_err(|_| TarError::Magic)?;
        if header.sum() == sum || header.signed_sum() == i64::try_from(sum).unwrap_or(-1) {
            return Ok(header);
        }
        Err(if block[MAGIC].starts_with(b"ustar") { TarError::Checksum } else { TarError::Magic })
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let (prefix, name) = (text(&self.0[PREFIX]), text(&self.0[NAME]));
        // GNU has other things where POSIX has the prefix.
        if &self.0[MAGIC] == b"ustar\0" && !prefix.is_empty() {
            return [prefix.as_slice(), b"/", &name].concat();
        }
        name
    }

    pub(super) fn target(&self) -> Vec<u8> {
        text(&self.0[TARGET])
    }

    pub(super) fn mode(&self) -> Result<u16, TarError> {
        Ok(u16::try_from(self.number(MODE, "mode")? & 0o7777).expect("twelve bits"))
    }

    pub(super) fn uid(&self) -> Result<u32, TarError> {
        self.number(UID, "owner")?.try_into().map_err(|_| TarError::Field("owner"))
    }

    pub(super) fn gid(&self) -> Result<u32, TarError> {
        self.number(GID, "group")?.try_into().map_err(|_| TarError::Field("group"))
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        self.number(SIZE, "size")
    }

    /// Before 1970 where it is negative, which only GNU's form of numbers can be.
    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        if self.0[MTIME.start] == 0xff {
            return Ok(0);
        }
        self.number(MTIME, "time")?.try_into().map_err(|_| TarError::Field("time"))
    }

    pub(super) fn major(&self) -> Result<u64, TarError> {
        self.number(MAJOR, "device")
    }

    pub(super) fn minor(&self) -> Result<u64, TarError> {
        self.number(MINOR, "device")
    }

    /// The parts of a sparse file, and whether more of them follow.
    pub(super) fn parts(&self) -> Result<(Vec<(u64, u64)>, bool), TarError> {
        let mut parts = Vec::new();
        put_parts(&self.0[GNU_PARTS], &mut parts)?;
        Ok((parts, self.0[GNU_MORE] != 0))
    }

    /// Size of a sparse file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, TarError> {
        self.number(GNU_SIZE, "size")
    }

    fn number(&self, field: Range<usize>, what: &'static str) -> Result<u64, TarError> {
        number(&self.0[field]).ok_or(TarError::Field(what))
    }

    /// Of all bytes, with spaces for the checksum itself.
    fn sum(&self) -> u64 {
        self.summed().map(u64::from).sum()
    }

    /// As some old archivers had it.
    fn signed_sum(&self) -> i64 {
        self.summed().map(|byte| i64::from(byte.cast_signed())).sum()
    }

    fn summed(&self) -> impl Iterator<Item = u8> {
        let bytes = self.0.iter().enumerate();
        bytes.map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte })
    }
}

/// Adds the parts of a block, and tells whether another follows.
pub(super) fn more_parts(
    block: &[u8; BLOCK],
    parts: &mut Vec<(u64, u64)>,
) -> Result<bool, TarError> {
    put_parts(&block[MORE_PARTS], parts)?;
    Ok(block[MORE_MORE] != 0)
}

fn put_parts(bytes: &[u8], parts: &mut Vec<(u64, u64)>) -> Result<(), TarError> {
    for part in bytes.chunks_exact(PART).take_while(|part| part[0] != 0) {
        let (at, size) = part.split_at(PART / 2);
        let part = number(at).zip(number(size));
        parts.push(part.ok_or(TarError::Sparse)?);
    }
    Ok(())
}

/// Up to the first zero.
pub(super) fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits, or GNU's form for large numbers: the first bit set, and bytes, highest first.
fn number(bytes: &[u8]) -> Option<u64> {
    if bytes[0] & 0x80 != 0 {
        let (first, rest) = bytes.split_first()?;
        let start = u64::from(first & 0x7f);
        return rest
            .iter()
            .try_fold(start, |number, byte| Some(number.checked_mul(256)? | u64::from(*byte)));
    }
    let text = str::from_utf8(bytes).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}
