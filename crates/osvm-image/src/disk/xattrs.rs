//! Extended attributes: those of users (`user.*`) and the capabilities of programs. All others
//! belong to the host, as its labels do.

use std::collections::BTreeMap;

use super::DiskError;
use super::metadata::{self, Stream};
use super::tree::Xattr;

/// What an inode without attributes has for the place of its set.
pub(super) const NONE: u32 = u32::MAX;

const USER: (&[u8], u16) = (b"user.", 0);
const SECURITY: (&[u8], u16) = (b"security.", 2);
const CAPABILITY: &[u8] = b"security.capability";

/// Linux gives no longer list of names, and no longer value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
pub(crate) const MAX: usize = 64 * 1024;

/// All sets of attributes, each once.
#[derive(Default)]
pub(super) struct Xattrs {
    pairs: Stream,
    /// Reference, count and size of each set.
    sets: Vec<u8>,
    places: BTreeMap<Vec<u8>, u32>,
}

/// The bytes of the table, and where on the disk its head is.
pub(super) struct Table {
    pub(super) bytes: Vec<u8>,
    pub(super) found_at: u64,
}

impl Xattrs {
    /// The place of a set.
    pub(super) fn place(&mut self, set: &[Xattr]) -> Result<u32, DiskError> {
        let (set, count) = bytes(set);
        if count == 0 {
            return Ok(NONE);
        }
        if let Some(place) = self.places.get(&set) {
            return Ok(*place);
        }
        let size = u32::try_from(set.len()).map_err(|_| DiskError::TooMany)?;
        let place = u32::try_from(self.places.len()).map_err(|_| DiskError::TooMany)?;
        self.sets.extend(self.pairs.place()?.reference().to_le_bytes());
        self.sets.extend(count.to_le_bytes());
        self.sets.extend(size.to_le_bytes());
        self.pairs.write(&set);
        self.places.insert(set, place);
        Ok(place)
    }

    /// Nothing when no file has any. `at` is where the table will lie on the disk.
    pub(super) fn table(self, at: u64) -> Option<Table> {
        if self.places.is_empty() {
            return None;
        }
        let mut bytes = self.pairs.finish();
        let (packed, blocks) = metadata::blocks(&self.sets, at + bytes.len() as u64);
        bytes.extend(packed);
        let found_at = at + bytes.len() as u64;
        bytes.extend(at.to_le_bytes());
        bytes.extend(
            u32::try_from(self.places.len()).expect("places are 32 bits wide").to_le_bytes(),
        );
        bytes.extend([0; 4]);
        bytes.extend(blocks);
        Some(Table { bytes, found_at })
    }
}

/// The attributes in the bytes of squashfs, and how many they are.
fn bytes(all: &[Xattr]) -> (Vec<u8>, u32) {
    let (mut set, mut count) = (Vec::new(), 0);
    let kept = all.iter().filter_map(|(name, value)| Some((kept(name)?, value)));
    for ((kind, short), value) in kept {
        set.extend(kind.to_le_bytes());
        set.extend(u16::try_from(short.len()).expect("names have 255 bytes").to_le_bytes());
        set.extend_from_slice(short);
        set.extend(u32::try_from(value.len()).expect("values have 64 KiB").to_le_bytes());
        set.extend_from_slice(value);
        count += 1;
    }
    (set, count)
}

/// The type of an attribute that is kept, and its name without the prefix that the type means.
pub(crate) fn kept(name: &[u8]) -> Option<(u16, &[u8])> {
    let (prefix, kind) = if name == CAPABILITY { SECURITY } else { USER };
    name.strip_prefix(prefix).map(|short| (kind, short))
}
