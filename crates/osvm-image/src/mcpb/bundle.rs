//! A bundle that was opened: its table is sound, and its manifest is read.

use std::io::{self, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use super::entries::{self, Entry, Form};
use super::{BundleError, Manifest};

/// More than any honest bundle has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub packed: u64,
    /// Bytes of all entries together.
    pub unpacked: u64,
    pub entries: usize,
    /// How many times its own size a bundle may unpack to, from 16 MiB on.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packed: 1 << 30, unpacked: 4 << 30, entries: 50_000, ratio: 100 }
    }
}

/// A bundle, none of which is unpacked but its manifest.
pub struct Bundle<R> {
    pub(super) archive: ZipArchive<R>,
    pub(super) entries: Vec<Entry>,
    manifest: Manifest,
}

const MANIFEST: &str = "manifest.json";
/// Bytes of a manifest; with long tables of tools they come to some tens of KiB.
const MANIFEST_BYTES: u64 = 1 << 20;
/// Bytes that are read to learn what the bundle holds: its table, which stays in memory.
const TABLE_BYTES: u64 = 8 << 20;
/// Bundles that unpack to no more may be of any ratio.
const SMALL: u64 = 16 << 20;

impl<R: Read + Seek> Bundle<R> {
    pub fn open(mut reader: R, limits: &Limits) -> Result<Self, BundleError> {
        let packed = reader.seek(SeekFrom::End(0)).map_err(BundleError::Read)?;
        if packed > limits.packed {
            return Err(BundleError::Packed(limits.packed));
        }
        let mut archive = open_table(reader)?;
        let entries = check_table(&archive, packed, limits)?;
        let manifest = read_manifest(&mut archive, &entries)?;
        Ok(Self { archive, entries, manifest })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of all entries together.
    pub fn unpacked_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }
}

/// The table, once it is known to be of a size that may stay in memory.
fn open_table<R: Read + Seek>(mut reader: R) -> Result<ZipArchive<R>, BundleError> {
    match ZipArchive::new(Bounded { inner: &mut reader, left: TABLE_BYTES }) {
        Err(ZipError::Io(error)) if error.kind() == io::ErrorKind::QuotaExceeded => {
            return Err(BundleError::Table(TABLE_BYTES));
        }
        other => other.map_err(BundleError::Zip)?,
    };
    ZipArchive::new(reader).map_err(BundleError::Zip)
}

fn check_table<R: Read + Seek>(
    archive: &ZipArchive<R>,
    packed: u64,
    limits: &Limits,
) -> Result<Vec<Entry>, BundleError> {
    let found = archive.len();
    if found > limits.entries {
        return Err(BundleError::Entries { found, limit: limits.entries });
    }
    if archive.has_duplicate_names() {
        return Err(BundleError::Duplicate);
    }
    let entries = entries::check(archive)?;
    let total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
    if total > limits.unpacked {
        return Err(BundleError::Unpacked(limits.unpacked));
    }
    if total > SMALL && total > packed.saturating_mul(limits.ratio) {
        return Err(BundleError::Ratio(limits.ratio));
    }
    Ok(entries)
}

fn read_manifest<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    entries: &[Entry],
) -> Result<Manifest, BundleError> {
    let entry = entries.iter().find(|entry| entry.path == MANIFEST && entry.form == Form::File);
    let entry = entry.ok_or(BundleError::NoManifest)?;
    let bytes = entry.read(archive, MANIFEST_BYTES)?;
    Ok(Manifest::parse(&bytes)?)
}

/// Reads no more than is left.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..room])?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
