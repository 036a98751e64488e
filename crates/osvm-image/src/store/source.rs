//! What an image is made from, and whether it still looks as it did.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::import::{not_a_disk, not_an_image};
use super::{Digest, ImportError};
use crate::config::Config;
use crate::disk::Folder;
use crate::oci::registry::Repository;
use crate::oci::{self, Access, Limits, Reference, layout};
use crate::{decompress, files, local, mcpb};

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A root file system as a folder; becomes a disk.
    Folder(PathBuf),
    /// A `newc` archive, possibly compressed; becomes (part of) the initramfs.
    Cpio(PathBuf),
    /// Container images in the folder of an image layout.
    Layout(Local),
    /// A tar archive: of an image layout, of what `docker save` writes, or of the files themselves;
    /// it may be compressed with gzip or zstd.
    Tar(Local),
    /// A container image in a registry.
    Registry(Remote),
    /// Layers that osvm made itself.
    Stack(Stack),
    /// An MCPB bundle, a program or a project, of which osvm has made layers.
    Bundle(Bundled),
}

/// One of the images at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub path: PathBuf,
    /// Which one, where there are several.
    pub name: Option<String>,
    /// As container images call it.
    pub architecture: String,
    pub limits: Limits,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub reference: Reference,
    pub access: Access,
    /// As container images call it.
    pub architecture: String,
    pub limits: Limits,
}

/// Archives of files, each over the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// What people call it; it stands for the source, whatever its layers are.
    pub origin: String,
    pub layers: Vec<PathBuf>,
    pub config: Config,
}

/// A bundle, a program or a project, and the layers that were made of it as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    pub path: PathBuf,
    /// What it looked like.
    pub(super) fingerprint: [u8; 32],
    /// In its place, with the layers.
    pub stack: Stack,
}

/// What a source looks like at one time: nothing of it is read.
#[derive(Debug)]
pub(super) enum Look {
    Folder(Folder),
    Cpio(Archive),
    Layout(Folder),
    Tar(Archive),
    /// The image that a reference means.
    Registry(Digest),
    Stack(Vec<Archive>),
    Bundle(Made),
}

/// What osvm makes layers of, a file or a folder.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) fingerprint: [u8; 32],
    /// In seconds and nanoseconds.
    last_change: (i64, i64),
}

#[derive(Debug)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    pub(super) stat: Metadata,
}

/// Kernels write times of change in steps of at most this.
const CLOCK_STEP: Duration = Duration::from_millis(10);

impl Source {
    /// A folder, an image layout or an archive, by what is at `path`.
    pub fn at(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(failed)?;
        let kind = fs::metadata(&path).map_err(failed)?.file_type();
        if Bundled::is_at(&path) {
            return Err(ImportError::Made { path });
        }
        if kind.is_dir() {
            let is_layout = layout::is_layout(&path).map_err(failed)?;
            return Ok(if is_layout { Self::Layout(path.into()) } else { Self::Folder(path) });
        }
        if kind.is_file() {
            // What can't be read is refused when it is.
            let is_tar = start(&path).is_ok_and(|start| oci::tar::is_tar(&start));
            return Ok(if is_tar { Self::Tar(path.into()) } else { Self::Cpio(path) });
        }
        Err(ImportError::Kind { path })
    }

    /// Whether one look tells if it has changed.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Cpio(_) | Self::Tar(_))
    }

    /// An image in a registry.
    pub fn registry(reference: Reference, access: Access) -> Self {
        Self::Registry(Remote {
            reference,
            access,
            architecture: oci::ARCHITECTURE.to_owned(),
            limits: Limits::default(),
        })
    }

    /// What people call it.
    pub(super) fn origin(&self) -> String {
        match self {
            Self::Folder(path) | Self::Cpio(path) => path.display().to_string(),
            Self::Layout(local) | Self::Tar(local) => match &local.name {
                Some(name) => format!("{}:{name}", local.path.display()),
                None => local.path.display().to_string(),
            },
            Self::Registry(remote) => remote.reference.to_string(),
            Self::Stack(stack) | Self::Bundle(Bundled { stack, .. }) => stack.origin.clone(),
        }
    }

    pub(super) fn look(&self) -> Result<Look, ImportError> {
        match self {
            Self::Folder(path) => Folder::scan(path).map(Look::Folder).map_err(not_a_disk(path)),
            Self::Cpio(path) => Archive::look(path).map(Look::Cpio),
            Self::Layout(Local { path, .. }) => {
                Folder::scan(path).map(Look::Layout).map_err(not_a_disk(path))
            }
            Self::Tar(Local { path, .. }) => Archive::look(path).map(Look::Tar),
            Self::Registry(remote) => {
                remote.resolve().map(Look::Registry).map_err(not_an_image(self))
            }
            Self::Stack(stack) => {
                let looks = stack.layers.iter().map(|layer| Archive::look(layer));
                Ok(Look::Stack(looks.collect::<Result<_, _>>()?))
            }
            Self::Bundle(bundled) => Made::look(&bundled.path).map(Look::Bundle),
        }
    }

    /// A file name that stands for this source.
    pub fn key(&self) -> String {
        let parts: [&[u8]; 4] = match self {
            Self::Folder(path) => [b"folder", bytes(path), b"", b""],
            Self::Cpio(path) => [b"cpio", bytes(path), b"", b""],
            Self::Layout(local) => local.key(b"layout"),
            Self::Tar(local) => local.key(b"tar"),
            Self::Registry(remote) => return remote.key(),
            Self::Stack(stack) => [b"stack", stack.origin.as_bytes(), b"", b""],
            Self::Bundle(bundled) => [b"bundle", bytes(&bundled.path), b"", b""],
        };
        hash(&parts)
    }
}

impl From<PathBuf> for Local {
    fn from(path: PathBuf) -> Self {
        let architecture = oci::ARCHITECTURE.to_owned();
        Self { path, name: None, architecture, limits: Limits::default() }
    }
}

impl Local {
    fn key<'a>(&'a self, kind: &'a [u8]) -> [&'a [u8]; 4] {
        let name = self.name.as_deref().unwrap_or_default();
        [kind, bytes(&self.path), name.as_bytes(), self.architecture.as_bytes()]
    }
}

impl Bundled {
    /// Whether what is there is no image until osvm has made layers of it.
    pub fn is_at(path: &Path) -> bool {
        mcpb::is_bundle(path) || local::is_server(path)
    }

    /// As it is now, with no layer made yet.
    pub fn at(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(failed)?;
        let fingerprint = Made::look(&path)?.fingerprint;
        let (origin, config) = (path.display().to_string(), Config::default());
        Ok(Self { path, fingerprint, stack: Stack { origin, layers: Vec::new(), config } })
    }
}

impl Remote {
    fn resolve(&self) -> Result<Digest, oci::OciError> {
        let nothing = Path::new("");
        Repository::open(&self.reference, &self.access, nothing, &|_, _| {})?.resolve()
    }

    fn key(&self) -> String {
        let reference = self.reference.to_string();
        hash(&[b"registry", reference.as_bytes(), self.architecture.as_bytes()])
    }
}

impl Made {
    fn look(path: &Path) -> Result<Self, ImportError> {
        if path.is_dir() {
            let folder = Folder::scan(path).map_err(not_a_disk(path))?;
            let (fingerprint, last_change) = (folder.fingerprint(), folder.last_change());
            return Ok(Self { fingerprint, last_change });
        }
        let file = Archive::look(path)?;
        let last_change = (file.stat.ctime(), file.stat.ctime_nsec());
        Ok(Self { fingerprint: file.fingerprint(), last_change })
    }
}

impl Archive {
    fn look(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let stat = fs::metadata(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), stat })
    }

    /// Of an archive that is never changed, but may be made anew: it may be linked and moved.
    fn fixed_fingerprint(&self) -> [u8; 32] {
        let (name, stat) = (self.path.file_name().unwrap_or_default(), &self.stat);
        let numbers = [
            stat.size().to_le_bytes(),
            stat.mtime().to_le_bytes(),
            stat.mtime_nsec().to_le_bytes(),
        ];
        Sha256::digest([name.as_bytes(), &numbers.concat()].concat()).into()
    }

    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let stat = &self.stat;
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        let numbers = [stat.dev(), stat.ino(), stat.size()];
        let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
        let bytes: Vec<u8> = numbers.chain(times.into_iter().flat_map(i64::to_le_bytes)).collect();
        Sha256::digest(bytes).into()
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// What has no parts at its end has the name that it always had.
fn hash(parts: &[&[u8]]) -> String {
    let end = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
    files::hex(&Sha256::digest(parts[..end].join(&0)))
}

/// The first bytes of what a file holds.
fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    let from = decompress::reader(files::open(path)?)?;
    from.take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// A header of a tar archive.
const START: u64 = 512;

impl Look {
    /// Changes whenever anything changes that `stat` shows.
    pub(super) fn fingerprint(&self) -> String {
        files::hex(&match self {
            Self::Folder(folder) | Self::Layout(folder) => folder.fingerprint(),
            Self::Cpio(archive) | Self::Tar(archive) => archive.fingerprint(),
            Self::Bundle(made) => made.fingerprint,
            Self::Registry(digest) => Sha256::digest(digest.to_string()).into(),
            Self::Stack(layers) => {
                let prints: Vec<_> = layers.iter().flat_map(Archive::fixed_fingerprint).collect();
                Sha256::digest(prints).into()
            }
        })
    }

    /// Whether something may change after `now` and still look the same: its last change and the
    /// next would get the same time. `now` is by the clock of the file system.
    pub(super) fn is_fresh(&self, now: &Metadata) -> bool {
        let last = match self {
            Self::Folder(folder) | Self::Layout(folder) => folder.last_change(),
            Self::Bundle(made) => made.last_change,
            Self::Cpio(archive) | Self::Tar(archive) => {
                (archive.stat.ctime(), archive.stat.ctime_nsec())
            }
            // Neither changes in place.
            Self::Registry(_) | Self::Stack(_) => return false,
        };
        let nanos =
            |(seconds, nanos): (i64, i64)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let step = i128::try_from(CLOCK_STEP.as_nanos()).expect("milliseconds");
        nanos(last) + step >= nanos((now.ctime(), now.ctime_nsec()))
    }
}
