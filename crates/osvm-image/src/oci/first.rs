//! The first entry of an archive of files, which may be huge.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::OciError;
use super::spool::At;
use super::tar::{Bytes, Kind, Reader};
use crate::files;

/// What the first entry holds, when it is a file of that name and of that size at most.
pub(crate) fn read(archive: &Path, name: &str, limit: u64) -> Result<Vec<u8>, OciError> {
    let read = |source| OciError::Read { path: archive.to_owned(), source };
    let file = files::open(archive).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let entry = first(&file, size, archive)?.filter(|(found, ..)| found == name.as_bytes());
    let (_, at, size) = entry.ok_or_else(|| OciError::Missing(name.to_owned()))?;
    if size > limit {
        return Err(OciError::Limit { limit, what: "bytes in what a build says of itself" });
    }
    let mut bytes = Vec::new();
    At { file: &file, at }.take(size).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

/// Name, place and size.
fn first(file: &File, size: u64, archive: &Path) -> Result<Option<(Vec<u8>, u64, u64)>, OciError> {
    let layer = || archive.display().to_string();
    let broken = |source| OciError::Layer { layer: layer(), source };
    let mut reader = Reader::new(At { file, at: 0 }, 0..size).map_err(broken)?;
    let entry = reader.next().map_err(broken)?;
    Ok(entry.and_then(|entry| match entry.kind {
        Kind::File(place) => match place.bytes {
            Bytes::From(at) => Some((entry.name, at, place.size)),
            Bytes::Parts(_) => None,
        },
        _ => None,
    }))
}
