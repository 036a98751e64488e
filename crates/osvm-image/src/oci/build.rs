//! From wherever an image is to its disk.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::layer::Unpack;
use super::layout::Layout;
use super::manifest::{Blob, Blobs, Manifest, Wanted};
use super::merge::{Layer, Merged, Rootfs};
use super::registry::Repository;
use super::{Access, Limits, OciError, Reference, Spool, TarError};
use crate::Digest;
use crate::builder::INSTALLED;
use crate::config::{CONFIG_FILE, Config, MAX_BYTES};
use crate::store::Progress;
use crate::{disk, files};

/// What is to be built, and with what.
pub(crate) struct Job<'a> {
    pub(crate) architecture: &'a str,
    /// One of several images.
    pub(crate) name: Option<&'a str>,
    pub(crate) limits: &'a Limits,
    /// Where layers are kept while they are read.
    pub(crate) folder: &'a Path,
    pub(crate) tell: &'a dyn Fn(Progress),
}

/// What is known of a disk that was built.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) config: Config,
    /// Of the image's manifest, if it has one.
    pub(crate) manifest: Option<Digest>,
    pub(crate) architecture: Option<String>,
}

impl From<Config> for Built {
    fn from(config: Config) -> Self {
        Self { config, manifest: None, architecture: None }
    }
}

impl Job<'_> {
    /// From a folder that is a layout.
    pub(crate) fn layout(&self, folder: &Path, out: &mut File) -> Result<Built, OciError> {
        let mut layout = Layout(folder);
        let manifest = layout.manifest(self.wanted())?;
        self.build(&mut layout, manifest, Spool::new(self.folder)?, out)
    }

    /// From an archive, of images or of files.
    pub(crate) fn archive(&self, path: &Path, out: &mut File) -> Result<Built, OciError> {
        let mut spool = Spool::new(self.folder)?;
        let tell = self.unpacking(0, None);
        let mut archive = Archive::open(path, &mut spool, self.wanted(), &tell)?;
        match archive.manifest(self.wanted())? {
            Some(manifest) => self.build(&mut archive, manifest, spool, out),
            None => self.build_files(path, archive.into_files(spool)?, out),
        }
    }

    /// From archives of files, each over the one before.
    pub(crate) fn stack(
        &self,
        layers: &[PathBuf],
        config: &Config,
        out: &mut File,
    ) -> Result<Built, OciError> {
        let mut spool = Spool::new(self.folder)?;
        let mut merged = Merged::new(*self.limits);
        for path in layers {
            let blob = &Blob::named(path.to_string_lossy());
            let read = |source| OciError::Read { path: path.clone(), source };
            let from = files::open(path).map_err(read)?;
            let (limits, progress) = (self.limits, &self.unpacking(0, None));
            let range = Unpack { blob, spool: &mut spool, limits, progress }.run(from)?;
            if !merged.add(&Layer { name: &blob.name, spool: &spool, range })? {
                let layer = blob.name.clone();
                return Err(OciError::Layer { layer, source: TarError::Truncated });
            }
        }
        let what = INSTALLED.into();
        let removed = merged.remove(INSTALLED);
        removed.map_err(|source| OciError::Name { layer: String::new(), name: what, source })?;
        merged.put_file(CONFIG_FILE, &config.file(), &mut spool)?;
        self.pack(merged, &spool, out)?;
        Ok(Built { architecture: Some(self.architecture.to_owned()), ..config.clone().into() })
    }

    /// From a registry: what has this digest.
    pub(crate) fn pull(
        &self,
        (reference, access): (&Reference, &Access),
        digest: &Digest,
        downloads: &Path,
        out: &mut File,
    ) -> Result<Built, OciError> {
        let tell = |done, total| (self.tell)(Progress::Pulling { done, total });
        let mut repository = Repository::open(reference, access, downloads, &tell)?;
        let manifest = repository.manifest(digest, self.wanted())?;
        self.build(&mut repository, manifest, Spool::new(self.folder)?, out)
    }

    fn build(
        &self,
        blobs: &mut dyn Blobs,
        manifest: Manifest,
        mut spool: Spool,
        out: &mut File,
    ) -> Result<Built, OciError> {
        let total = manifest.size();
        self.limits.hold(total, self.limits.stored, "bytes of layers as they are stored")?;
        let mut merged = Merged::new(*self.limits);
        let mut done = 0;
        for blob in &manifest.layers {
            let unpacked = blobs.layer(blob).and_then(|from| {
                let progress = &self.unpacking(done, Some(total).filter(|total| *total > 0));
                let spool = &mut spool;
                Unpack { blob, spool, limits: self.limits, progress }.run(from)
            });
            if let Err(OciError::Digest { .. } | OciError::Blob { .. }) = unpacked {
                blobs.forget(blob);
            }
            merged.add(&Layer { name: &blob.name, spool: &spool, range: unpacked? })?;
            done += blob.expected.as_ref().map_or(0, |(_, size)| *size);
        }
        let Manifest { digest, architecture, config, .. } = manifest;
        merged.put_file(CONFIG_FILE, &config.file(), &mut spool)?;
        self.pack(merged, &spool, out)?;
        Ok(Built { config, manifest: digest, architecture })
    }

    /// An archive of files is a single layer, which may hold a configuration.
    fn build_files(
        &self,
        path: &Path,
        (spool, range): (Spool, Range<u64>),
        out: &mut File,
    ) -> Result<Built, OciError> {
        let name = path.to_string_lossy();
        self.limits.hold(spool.end(), self.limits.bytes, "bytes")?;
        let mut merged = Merged::new(*self.limits);
        if !merged.add(&Layer { name: &name, spool: &spool, range })? {
            let layer = name.into_owned();
            return Err(OciError::Layer { layer, source: TarError::Truncated });
        }
        let config = merged.read_file(CONFIG_FILE, &spool, MAX_BYTES as u64)?;
        let parse = |bytes: Vec<u8>| Config::parse(&bytes);
        let config = config.map(parse).transpose().map_err(|source| OciError::Json {
            what: format!("{CONFIG_FILE} in {name}"),
            source,
        })?;
        self.pack(merged, &spool, out)?;
        Ok(config.unwrap_or_default().into())
    }

    fn pack(&self, merged: Merged, spool: &Spool, out: &mut File) -> Result<(), OciError> {
        (self.tell)(Progress::Building);
        Ok(disk::write(&Rootfs::new(merged, spool), out)?)
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { architecture: self.architecture, name: self.name, limits: self.limits }
    }

    fn unpacking(&self, before: u64, total: Option<u64>) -> impl Fn(u64) {
        move |read| (self.tell)(Progress::Unpacking { done: before + read, total })
    }
}
