//! Sparse files: a map says which parts of a file are in the archive, one behind the other.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::{BLOCK, Bytes, MAX_PARTS, Part, Place, TarError};

/// What extended headers say of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    /// With its holes.
    pub(super) size: u64,
    /// Offsets and sizes.
    pub(super) map: Vec<(u64, u64)>,
    /// The map stands in front of the data instead.
    pub(super) map_in_data: bool,
}

/// The parts that lie in `data`. They come in order, none goes into another, and they are all of it.
pub(super) fn place(map: &[(u64, u64)], size: u64, data: Range<u64>) -> Result<Place, TarError> {
    let (mut parts, mut from, mut free) = (Vec::new(), data.start, 0);
    for &(at, length) in map {
        let end = at.checked_add(length).filter(|end| at >= free && *end <= size);
        free = end.ok_or(TarError::Sparse)?;
        if length > 0 {
            parts.push(Part { at, size: length, from });
        }
        from = from.checked_add(length).filter(|from| *from <= data.end).ok_or(TarError::Sparse)?;
    }
    if from != data.end {
        return Err(TarError::Sparse);
    }
    Ok(Place { size, bytes: Bytes::Parts(parts.into()) })
}

/// Reads a map of lines: how many parts, and each one's offset and size. Tells how many bytes it takes.
pub(super) fn read_map(from: &mut impl BufRead) -> Result<(Vec<(u64, u64)>, u64), TarError> {
    let mut used = 0;
    let count = read_number(from, &mut used)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PARTS);
    let mut map = Vec::new();
    for _ in 0..count.ok_or(TarError::Parts)? {
        map.push((read_number(from, &mut used)?, read_number(from, &mut used)?));
    }
    let padded = used.next_multiple_of(BLOCK as u64);
    let mut padding = [0; BLOCK];
    let padding = &mut padding[..usize::try_from(padded - used).expect("less than a block")];
    from.read_exact(padding).map_err(TarError::Read)?;
    Ok((map, padded))
}

fn read_number(from: &mut impl BufRead, used: &mut u64) -> Result<u64, TarError> {
    let mut line = Vec::new();
    // Twenty digits and the end of the line.
    from.take(21).read_until(b'\n', &mut line).map_err(TarError::Read)?;
    *used += line.len() as u64;
    let digits = line.strip_suffix(b"\n").and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).ok_or(TarError::Sparse)
}
