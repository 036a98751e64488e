//! Content-addressed images under one folder.
//!
//! ```text
//! <root>/blobs/<digest>     the bytes: a disk or an archive
//! <root>/meta/<digest>      what is known about them, as JSON
//! <root>/sources/<path>     which digest a source had when it last looked like this
//! <root>/locks/<path>       held while a source is imported
//! <root>/parts/<path>       an image while it is built
//! <root>/parts/<path>.pull  its layers, until it is built
//! <root>/layers/<name>      layers that osvm made itself, for many images
//! ```
//!
//! A `<path>` is a hash that stands for a source.

mod import;
mod layers;
mod meta;
mod source;
mod unused;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use osvm_spec::lock::Pin;
use thiserror::Error;

pub use import::{ImportError, Progress};
pub use layers::{Draft, Hold};
pub use osvm_spec::{Digest, DigestError};
pub use source::{Bundled, Local, Remote, Source, Stack};

use crate::files;
use meta::Meta;

/// The images under one root folder. Cheap to clone; calls block, so an async caller gives them a thread.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub digest: Digest,
    pub root: Root,
    /// Bytes on disk.
    pub size: u64,
    /// What it was made from, for people.
    pub origin: String,
    /// Command of the image, empty when it has none.
    pub entrypoint: Vec<String>,
    /// How many of its last words are arguments, which others take the place of.
    pub arguments: usize,
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// Digest of the container image that it was made from.
    pub manifest: Option<Digest>,
    /// As container images call it.
    pub architecture: Option<String>,
    /// Which osvm has installed.
    pub packages: BTreeSet<Pin>,
}

impl Image {
    /// Its command with these arguments in place of its own, if there are any.
    pub fn command(&self, args: &[String]) -> Vec<String> {
        let own = if args.is_empty() { 0 } else { self.arguments };
        [&self.entrypoint[..self.entrypoint.len() - own], args].concat()
    }
}

/// The bytes of an image, and how a guest gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A read-only disk.
    Disk(PathBuf),
    /// An archive that becomes part of the initramfs.
    Cpio(PathBuf),
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("find image {0}: it is not in the store")]
    NotFound(Digest),
    #[error("{act} {}", path.display())]
    File { act: &'static str, path: PathBuf, source: io::Error },
    #[error("trust {}: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}

impl Store {
    /// Makes the root folder (0700) when there is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        for folder in ["blobs", "meta", "sources", "locks", "parts", "layers"] {
            let path = store.root.join(folder);
            files::make_folder(&path).map_err(|source| StoreError::File {
                act: "make folder",
                path,
                source,
            })?;
        }
        Ok(store)
    }

    /// All images, by digest.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let folder = self.root.join("meta");
        let entries = fs::read_dir(&folder).map_err(|source| StoreError::File {
            act: "read folder",
            path: folder.clone(),
            source,
        })?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut digests: Vec<_> = names.filter_map(|hex| Digest::of_hex(&hex)).collect();
        digests.sort();
        Ok(digests.iter().filter_map(|digest| self.listed(digest)).collect())
    }

    /// Nothing for an image that was removed just now, or whose description is damaged: the others
    /// are to be seen all the same.
    fn listed(&self, digest: &Digest) -> Option<Image> {
        let image = self.inspect(digest);
        image.inspect_err(|error| tracing::warn!("image {digest} is left out: {error}")).ok()
    }

    pub fn inspect(&self, digest: &Digest) -> Result<Image, StoreError> {
        let path = self.blob(digest);
        let size = match fs::metadata(&path) {
            Ok(stat) => stat.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(digest.clone()));
            }
            Err(source) => return Err(StoreError::File { act: "read", path, source }),
        };
        let meta = match Meta::load(&self.meta(digest)) {
            // Bytes without a description are what an interrupted import left.
            Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(digest.clone()));
            }
            meta => meta?,
        };
        let image = meta.image(digest.clone(), path);
        if image.size == size {
            return Ok(image);
        }
        let (path, asked) = (self.blob(digest), image.size);
        Err(StoreError::Damaged { path, what: format!("it has {size} bytes instead of {asked}") })
    }

    /// Reads the whole image again and compares its digest.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob(digest);
        let found = files::digest(&path).map_err(|source| StoreError::File {
            act: "read",
            path: path.clone(),
            source,
        })?;
        if found == digest.hex() {
            return Ok(());
        }
        Err(StoreError::Damaged { path, what: format!("its digest is sha256:{found}") })
    }

    /// VMs that run from the image go on: their file is gone only when they are.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        // Both are tried, so that what an interrupted removal left goes, too.
        let known = self.remove_file(self.meta(digest))?;
        let kept = self.remove_file(self.blob(digest))?;
        if known || kept { Ok(()) } else { Err(StoreError::NotFound(digest.clone())) }
    }

    /// Whether the file was there.
    fn remove_file(&self, path: PathBuf) -> Result<bool, StoreError> {
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::File { act: "remove", path, source }),
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    fn meta(&self, digest: &Digest) -> PathBuf {
        self.root.join("meta").join(digest.hex())
    }
}
