//! The images of a home, looked at and tidied up; no daemon need run for that.

pub(crate) mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use osvm_image::Progress as Step;
pub use osvm_image::oci::{Access, Proxies, Trust};
use osvm_image::{Bundled, Image, ImportError, Root, Source, Store, StoreError};
use osvm_spec::lock::Pin;
use osvm_spec::{Digest, ImageRef, Reference, Server};
use serde::Serialize;
use thiserror::Error;

use crate::Home;
use crate::api::{ApiError, ErrorKind};
use crate::local::is_server;
use crate::lock::{LockFile, LockFileError};

pub struct Images {
    store: Store,
}

/// One image, as `osvm image` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ImageInfo {
    pub digest: Digest,
    /// `disk` (squashfs, read only) or `cpio` (part of the initramfs).
    pub kind: &'static str,
    /// On disk.
    pub size_bytes: u64,
    /// What it was made from: a path, or a reference in a registry.
    pub origin: String,
    /// The digest that its registry or layout knows it by.
    pub manifest: Option<Digest>,
    pub architecture: Option<String>,
    pub entrypoint: Vec<String>,
    pub env: Vec<String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// Which osvm has installed in it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub packages: BTreeSet<Pin>,
    /// Servers and VMs.
    pub used_by: Vec<String>,
}

/// Who uses which image.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<Digest, Vec<String>>);

/// What was removed.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Pruned {
    pub images: Vec<Digest>,
    /// What images are made from, and what was left of some that were not made.
    pub layers: Vec<String>,
    pub bytes: u64,
}

/// Of which layers nothing shall stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// Those that became no image.
    LeftOver,
    /// Also those that the next images would be made from.
    All,
}

#[derive(Debug, Error)]
pub enum ImagesError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("no image has a digest that begins with {0}")]
    NoSuch(String),
    #[error("{count} images have digests that begin with {text}")]
    Several { text: String, count: usize },
}

impl From<ImagesError> for ApiError {
    fn from(error: ImagesError) -> Self {
        let kind = match &error {
            ImagesError::NoSuch(_) => ErrorKind::NoSuch,
            ImagesError::Several { .. } => ErrorKind::Usage,
            ImagesError::Store(_) => return Self::failed(&error),
            ImagesError::Import(source) => {
                let failed = Self::failed(&error);
                return match source.hint() {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                };
            }
        };
        Self::new(kind, error.to_string()).hint("osvm image list")
    }
}

impl Images {
    pub fn open(home: &Home) -> Result<Self, ImagesError> {
        Ok(Self::in_store(Store::open(&home.images())?))
    }

    pub(crate) fn in_store(store: Store) -> Self {
        Self { store }
    }

    /// The image of what is at `path`; made if it is not there, or what it is made from has changed.
    pub fn build(
        &self,
        path: &Path,
        mut step: impl FnMut(Step) + Send,
    ) -> Result<Digest, ImagesError> {
        Ok(self.store.import(&Source::at(path)?, &mut step)?.digest)
    }

    /// What a reference means in its registry at this moment.
    pub fn pull(
        &self,
        reference: &Reference,
        access: Access,
        mut step: impl FnMut(Step) + Send,
    ) -> Result<Digest, ImagesError> {
        let source = Source::registry(reference.clone(), access);
        Ok(self.store.import(&source, &mut step)?.digest)
    }

    /// The largest first.
    pub fn list(&self, users: &Users) -> Result<Vec<ImageInfo>, ImagesError> {
        let mut images = self.store.list()?;
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        Ok(images.into_iter().map(|image| info(image, users)).collect())
    }

    pub fn inspect(&self, digest: &Digest, users: &Users) -> Result<ImageInfo, ImagesError> {
        Ok(info(self.store.inspect(digest)?, users))
    }

    /// The image whose digest begins so, with or without `sha256:`.
    pub fn find(&self, text: &str) -> Result<Digest, ImagesError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut found = self.all()?;
        found.retain(|digest| digest.hex().starts_with(hex));
        match (found.len(), found.pop()) {
            (1, Some(digest)) => Ok(digest),
            (0, _) => Err(ImagesError::NoSuch(text.to_owned())),
            (count, _) => Err(ImagesError::Several { text: text.to_owned(), count }),
        }
    }

    /// Damaged ones, too.
    pub fn all(&self) -> Result<Vec<Digest>, ImagesError> {
        let all = self.store.others(&BTreeSet::new())?;
        Ok(all.into_iter().map(|(digest, _)| digest).collect())
    }

    /// Reads all of it, and compares its digest.
    pub fn verify(&self, digest: &Digest) -> Result<(), ImagesError> {
        Ok(self.store.verify(digest)?)
    }

    /// VMs that run from it go on.
    pub fn remove(&self, digest: &Digest) -> Result<(), ImagesError> {
        Ok(self.store.remove(digest)?)
    }

    /// What [`prune`](Self::prune) would remove.
    pub fn unused(&self, users: &Users, with: Layers) -> Result<Pruned, ImagesError> {
        let images = self.store.others(&users.0.keys().cloned().collect())?;
        let mut layers = self.store.layers()?;
        layers.retain(|(name, _)| with == Layers::All || !name.starts_with(sources::BASE));
        let bytes = images.iter().map(|(_, bytes)| bytes).sum::<u64>()
            + layers.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let images = images.into_iter().map(|(digest, _)| digest).collect();
        Ok(Pruned { images, layers: layers.into_iter().map(|(name, _)| name).collect(), bytes })
    }

    /// Removes images that nobody uses, and what builds and imports that were given up have left.
    pub fn prune(&self, users: &Users, with: Layers) -> Result<Pruned, ImagesError> {
        let mut pruned = self.unused(users, with)?;
        for digest in &pruned.images {
            match self.store.remove(digest) {
                // Somebody else was faster.
                Err(StoreError::NotFound(_)) => {}
                removed => removed?,
            }
        }
        for name in &pruned.layers {
            self.store.remove_layer(name)?;
        }
        pruned.bytes += self.store.sweep()?;
        Ok(pruned)
    }

    /// Notes that this is a server's image. Paths are absolute.
    pub fn used(&self, image: &ImageRef, user: String, users: &mut Users) {
        if let Some(digest) = self.last(image) {
            users.add(digest, user);
        }
    }

    /// Notes the images in which others are made.
    pub fn used_by_builds(&self, users: &mut Users) {
        for origin in sources::WORKSHOPS {
            if let Some(digest) = self.store.last(&Source::Stack(sources::stack(origin))) {
                users.add(digest, "(builds)".to_owned());
            }
        }
    }

    /// The image that this stood for the last time, if it is here and whole. One that is made, and
    /// has changed since, has none.
    pub fn of(&self, image: &ImageRef) -> Option<Digest> {
        if let Some(bundled) = sources::bundle(image) {
            return self.store.current(&Source::Bundle(bundled));
        }
        self.last(image).filter(|digest| self.store.inspect(digest).is_ok())
    }

    /// The image that the user has accepted of a server, if it is here and whole. Nothing for a program or a project of
    /// the user's own: that is wanted as it is now, and is held against what was accepted.
    pub fn accepted(
        &self,
        lock: &LockFile,
        server: &Server,
    ) -> Result<Option<Digest>, LockFileError> {
        let is_own =
            |image: &ImageRef| matches!(image, ImageRef::Path(path) if is_server(path.as_ref()));
        if !server.locked || server.image.as_ref().is_some_and(is_own) {
            return Ok(None);
        }
        let locked = lock.of_server(&server.name)?;
        let image = locked.map(|locked| locked.image);
        Ok(image.filter(|digest| self.store.inspect(digest).is_ok()))
    }

    /// The image of what is at `path`, if it has not changed since that was made.
    pub(crate) fn current(&self, path: &Path) -> Option<Digest> {
        self.store.current(&Source::at(path).ok()?)
    }

    /// Nothing for what was never made here, or is there no more.
    fn last(&self, image: &ImageRef) -> Option<Digest> {
        match image {
            ImageRef::Digest(digest) => Some(digest.clone()),
            ImageRef::Path(_) if let Some(bundled) = sources::bundle(image) => {
                self.store.last(&Source::Bundle(bundled))
            }
            ImageRef::Path(path) => self.store.last(&Source::at(path.as_ref()).ok()?),
            image => self.store.last(&sources::source(image)?),
        }
    }
}

/// Whether osvm makes layers of what is at that path: it is a bundle, a program or a project.
pub fn is_made(path: &Path) -> bool {
    Bundled::is_at(path)
}

impl Users {
    pub fn add(&mut self, digest: Digest, user: String) {
        let users = self.0.entry(digest).or_default();
        if !users.contains(&user) {
            users.push(user);
        }
    }
}

fn info(image: Image, users: &Users) -> ImageInfo {
    let used_by = users.0.get(&image.digest).cloned().unwrap_or_default();
    ImageInfo {
        kind: match image.root {
            Root::Disk(_) => "disk",
            Root::Cpio(_) => "cpio",
        },
        size_bytes: image.size,
        origin: image.origin,
        manifest: image.manifest,
        architecture: image.architecture,
        entrypoint: image.entrypoint,
        env: image.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        user: image.user,
        working_dir: image.workdir,
        packages: image.packages,
        used_by,
        digest: image.digest,
    }
}
