//! Archives: of a layout, of what `docker save` writes, or of the files of an image themselves.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::layer::{self, Unpack};
use super::manifest::{Blob, Blobs, Descriptor, Document, Manifest, Wanted, bounded};
use super::spool::At;
use super::tar::{Bytes, Kind, Reader, TarError};
use super::{OciError, Spool, docker, layout};
use crate::files;

/// An archive that was looked through.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    range: Range<u64>,
    /// It was compressed, and lies in the spool.
    is_spooled: bool,
    /// Nothing when it has more than any archive of images.
    found: Option<HashMap<PathBuf, Found>>,
}

enum Found {
    File(Range<u64>),
    /// As old versions of `docker save` have for layers that two images share.
    Symlink(PathBuf),
}

/// More names are in none but an archive of files.
const MAX_FOUND: usize = 10_000;

impl Archive {
    pub(super) fn open(
        path: &Path,
        spool: &mut Spool,
        wanted: Wanted<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<Self, OciError> {
        let read = |source| OciError::Read { path: path.to_owned(), source };
        let file = files::open(path).map_err(read)?;
        let mut start = Vec::new();
        At { file: &file, at: 0 }.take(4).read_to_end(&mut start).map_err(read)?;
        let is_spooled = layer::is_packed(&start);
        let (file, range) = if is_spooled {
            let blob = Blob::named(path.to_string_lossy());
            let unpack = Unpack { blob: &blob, spool, limits: wanted.limits, progress };
            let range = unpack.run(file)?;
            (spool.share()?, range)
        } else {
            let size = file.metadata().map_err(read)?.len();
            (file, 0..size)
        };
        let mut archive = Self { path: path.to_owned(), file, range, is_spooled, found: None };
        archive.found = archive.list().map_err(|source| archive.broken(source))?;
        Ok(archive)
    }

    /// Nothing for an archive of files.
    pub(super) fn manifest(&mut self, wanted: Wanted<'_>) -> Result<Option<Manifest>, OciError> {
        if self.has(layout::MARK) && self.has(layout::INDEX) {
            let index = self.read(layout::INDEX)?;
            let index = Document::parse(layout::INDEX, &index)?;
            return Manifest::resolve(self, index, None, wanted).map(Some);
        }
        if self.has(docker::MANIFEST) { docker::manifest(self, wanted) } else { Ok(None) }
    }

    /// An archive of files is read where it lies.
    pub(super) fn into_files(self, spool: Spool) -> Result<(Spool, Range<u64>), OciError> {
        let Self { path, file, range, is_spooled, .. } = self;
        let spool = if is_spooled { spool } else { Spool::over(file, &path)? };
        Ok((spool, range))
    }

    /// A whole document.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, OciError> {
        bounded(name, self.find(Path::new(name))?)
    }

    fn has(&self, name: &str) -> bool {
        self.found.as_ref().is_some_and(|found| found.contains_key(Path::new(name)))
    }

    fn find<'a>(&'a self, name: &Path) -> Result<impl Read + use<'a>, OciError> {
        let found = self.found.as_ref().and_then(|found| match found.get(name)? {
            Found::File(range) => Some(range),
            Found::Symlink(target) => match found.get(target)? {
                Found::File(range) => Some(range),
                Found::Symlink(_) => None,
            },
        });
        let found = found.ok_or_else(|| OciError::Missing(name.display().to_string()))?;
        Ok(self.at(found))
    }

    fn at<'a>(&'a self, range: &Range<u64>) -> impl Read + use<'a> {
        let at = At { file: &self.file, at: range.start };
        BufReader::new(at.take(range.end - range.start))
    }

    fn list(&self) -> Result<Option<HashMap<PathBuf, Found>>, TarError> {
        let mut reader = Reader::new(At { file: &self.file, at: 0 }, self.range.clone())?;
        let mut all = HashMap::new();
        while let Some(entry) = reader.next()? {
            if all.len() == MAX_FOUND {
                return Ok(None);
            }
            let name = plain(Path::new(OsStr::from_bytes(&entry.name)));
            let found = match entry.kind {
                Kind::File(place) => match place.bytes {
                    Bytes::From(start) => Found::File(start..start + place.size),
                    Bytes::Parts(_) => continue,
                },
                Kind::Symlink(target) => {
                    let target = Path::new(OsStr::from_bytes(&target));
                    Found::Symlink(plain(&name.parent().unwrap_or(Path::new("")).join(target)))
                }
                _ => continue,
            };
            all.insert(name, found);
        }
        Ok(Some(all))
    }

    fn broken(&self, source: TarError) -> OciError {
        OciError::Layer { layer: self.path.display().to_string(), source }
    }
}

impl Blobs for Archive {
    fn document(&mut self, of: &Descriptor) -> Result<Box<dyn Read + '_>, OciError> {
        Ok(Box::new(self.find(&layout::path(&of.digest.to_string()))?))
    }

    fn layer(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, OciError> {
        let name = match &blob.expected {
            Some((digest, _)) => layout::path(&digest.to_string()),
            None => PathBuf::from(&blob.name),
        };
        Ok(Box::new(self.find(&name)?))
    }
}

/// The name without `.` and `..`; it names nothing but what is in the archive.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}
