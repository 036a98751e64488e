//! Image layouts: a folder with `index.json` and blobs by their digests, or the same in an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::OciError;
use super::manifest::{Blob, Blobs, Descriptor, Document, Manifest, Wanted, bounded, form};
use crate::files;

/// What a layout says of itself.
pub(crate) const MARK: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";

/// A layout that is a folder.
pub(super) struct Layout<'a>(pub(super) &'a Path);

impl Layout<'_> {
    pub(super) fn manifest(&mut self, wanted: Wanted<'_>) -> Result<Manifest, OciError> {
        let index = self.open(Path::new(INDEX))?;
        let index = bounded(INDEX, index)?;
        Manifest::resolve(self, Document::parse(INDEX, &index)?, None, wanted)
    }

    fn open(&self, path: &Path) -> Result<File, OciError> {
        let path = self.0.join(path);
        files::open(&path).map_err(|source| OciError::Read { path, source })
    }
}

impl Blobs for Layout<'_> {
    fn document(&mut self, of: &Descriptor) -> Result<Box<dyn Read + '_>, OciError> {
        Ok(Box::new(self.open(&path(&of.digest.to_string()))?))
    }

    fn layer(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, OciError> {
        let digest = blob.expected.as_ref().map(|(digest, _)| digest.to_string());
        let digest = digest.ok_or_else(|| form(blob.name.as_str(), "it has no digest"))?;
        Ok(Box::new(self.open(&path(&digest))?))
    }
}

/// Where a blob lies in a layout.
pub(super) fn path(digest: &str) -> PathBuf {
    Path::new("blobs").join(digest.replace(':', "/"))
}

/// Whether a folder is a layout.
pub(crate) fn is_layout(folder: &Path) -> io::Result<bool> {
    folder.join(MARK).try_exists()
}
