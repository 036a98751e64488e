//! The table of a bundle: each entry by itself, and all of them beside each other. What passes can be
//! unpacked name by name into an empty folder, links last, and nothing comes to lie outside of it.

use std::collections::HashMap;
use std::io::{self, Read, Seek};

use zip::{CompressionMethod, ZipArchive};

use super::BundleError;

/// A sound entry: its path is relative, in normal form, and nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Place in the archive.
    index: usize,
    pub(super) path: String,
    pub(super) form: Form,
    /// Permissions alone. No bits that change the user.
    pub(super) mode: u32,
    pub(super) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    File,
    Folder,
    Link,
}

/// Longest path, and longest name in it, in bytes: Linux's own.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

pub(super) fn check<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<Vec<Entry>, BundleError> {
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        entries.push(entry(archive, index)?);
    }
    check_places(&entries)?;
    Ok(entries)
}

fn entry<R: Read + Seek>(archive: &ZipArchive<R>, index: usize) -> Result<Entry, BundleError> {
    let found = archive.by_index_data(index).map_err(BundleError::Zip)?;
    let shown = String::from_utf8_lossy(found.name_raw()).into_owned();
    let wrong = |why| BundleError::Entry { name: shown.clone(), why };
    let name = std::str::from_utf8(found.name_raw()).map_err(|_| wrong("is not UTF-8"))?;
    if let Some(why) = wrong_name(name.strip_suffix('/').unwrap_or(name)) {
        return Err(wrong(why));
    }
    if found.encrypted() {
        return Err(wrong("is encrypted"));
    }
    if ![CompressionMethod::Stored, CompressionMethod::Deflated].contains(&found.compression()) {
        return Err(wrong("is compressed in a way that bundles are not"));
    }
    let mode = found.unix_mode().unwrap_or_default();
    let form =
        form(mode, name.ends_with('/')).ok_or_else(|| wrong("is no file, folder or link"))?;
    let size = if form == Form::Folder { 0 } else { found.size() };
    if form == Form::Link && size > MAX_PATH as u64 {
        return Err(wrong("is a link with too long a target"));
    }
    let path = name.trim_end_matches('/').to_owned();
    Ok(Entry { index, path, form, mode: permissions(mode, form), size })
}

fn wrong_name(path: &str) -> Option<&'static str> {
    let drive = path.as_bytes().get(1) == Some(&b':');
    if path.starts_with('/') || drive {
        return Some("is an absolute name");
    }
    if path.contains('\\') {
        return Some("has a backslash in its name");
    }
    if path.contains(char::is_control) {
        return Some("has a control character in its name");
    }
    if path.len() > MAX_PATH || path.split('/').any(|part| part.len() > MAX_NAME) {
        return Some("has too long a name");
    }
    let hollow = |part: &str| matches!(part, "" | "." | "..");
    path.split('/').any(hollow).then_some("has an empty part, '.' or '..' in its name")
}

/// By the type in its mode; archives that were not written on Unix, and `mcpb pack`, have none there.
fn form(mode: u32, slash: bool) -> Option<Form> {
    match (mode & 0o170_000, slash) {
        (0 | 0o040_000, true) | (0o040_000, false) => Some(Form::Folder),
        (0 | 0o100_000, false) => Some(Form::File),
        (0o120_000, false) => Some(Form::Link),
        _ => None,
    }
}

/// What the owner needs to make a disk of it is always there.
fn permissions(mode: u32, form: Form) -> u32 {
    let usual = if form == Form::Folder { 0o755 } else { 0o644 };
    let needed = if form == Form::Folder { 0o700 } else { 0o400 };
    match mode & 0o777 {
        0 => usual,
        mode => mode | needed,
    }
}

/// No two entries at one place, not even where capitals don't count, and nothing below what is no folder.
fn check_places(entries: &[Entry]) -> Result<(), BundleError> {
    let mut places = HashMap::new();
    for entry in entries {
        if let Some((other, _)) =
            places.insert(entry.path.to_lowercase(), (&*entry.path, entry.form))
        {
            return Err(same_name(&entry.path, other));
        }
    }
    for entry in entries {
        for (at, _) in entry.path.match_indices('/') {
            let above = &entry.path[..at];
            // Folders need no entry of their own.
            let (other, form) =
                *places.entry(above.to_lowercase()).or_insert((above, Form::Folder));
            if other != above {
                return Err(same_name(above, other));
            }
            if form != Form::Folder {
                let why = "lies below what is no folder";
                return Err(BundleError::Entry { name: entry.path.clone(), why });
            }
        }
    }
    Ok(())
}

fn same_name(name: &str, other: &str) -> BundleError {
    BundleError::SameName { name: name.to_owned(), other: other.to_owned() }
}

impl Entry {
    /// Hands all of its bytes, whose number and checksum are as the table has them, to `take`.
    pub(super) fn copy<R: Read + Seek>(
        &self,
        archive: &mut ZipArchive<R>,
        mut take: impl FnMut(&[u8]) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let failed = |source| BundleError::Data { name: self.path.clone(), source };
        let data = archive.by_index(self.index).map_err(|error| failed(error.into()))?;
        let mut data = data.take(self.size.saturating_add(1));
        let (mut buffer, mut total) = ([0; 64 * 1024], 0);
        loop {
            let count = data.read(&mut buffer).map_err(failed)?;
            total += count as u64;
            match count {
                0 if total == self.size => return Ok(()),
                count if count > 0 && total <= self.size => take(&buffer[..count])?,
                _ => return Err(failed(io::Error::other("its size is not what the table says"))),
            }
        }
    }

    /// All of its bytes, if they are not over `limit`.
    pub(super) fn read<R: Read + Seek>(
        &self,
        archive: &mut ZipArchive<R>,
        limit: u64,
    ) -> Result<Vec<u8>, BundleError> {
        if self.size > limit {
            let source = io::Error::other(format!("it is over {limit} bytes"));
            return Err(BundleError::Data { name: self.path.clone(), source });
        }
        let mut bytes = Vec::new();
        self.copy(archive, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }
}
