//! A published release, brought to this host when the user asks for it: downloaded, checked against
//! its published SHA-256 sum, and only then unpacked.
//!
//! The sum comes from the same place as the archive, so it shows damage and mix-ups; that the place
//! is the right one is shown by TLS. The sum seen first is remembered, and a release that changes
//! afterwards is refused.
//!
//! Both programs come from one archive, since each jailer belongs to the VMM of its own version.
//! Programs that run keep the files they were started from.

mod download;
mod record;
mod unpack;

use std::fs::{DirBuilder, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use download::{Place, Target};
use record::Record;

/// The newest section of the project's CHANGELOG.md that is a release, and its newest tag.
pub const VERSION: &str = "1.16.1";

/// Where the project publishes its releases, as its getting-started document says.
pub const PUBLIC: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";

/// Which release, and where from.
#[derive(Debug, Clone)]
pub struct Release {
    /// Three numbers, as in `1.16.1`.
    version: String,
    place: Place,
}

/// A release on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub version: String,
    pub firecracker: PathBuf,
    pub jailer: PathBuf,
    /// The archive's sum, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("use '{0}' as a release's version: it is not three numbers, as in {VERSION}")]
    Version(String),
    #[error("download releases from {0}: neither https nor an address of this host's loopback")]
    Place(String),
    #[error("download {url}: there is no such release")]
    NoSuch { url: String },
    #[error("download {url}")]
    Get { url: String, source: Box<ureq::Error> },
    #[error("download {url}: it leads to {to}, which is not https")]
    Redirect { url: String, to: String },
    #[error("download {url}: it leads on and on, or nowhere")]
    Astray { url: String },
    #[error("read {url} to its end")]
    Cut { url: String, source: io::Error },
    #[error("download {url}: it has more than {limit} bytes")]
    TooBig { url: String, limit: u64 },
    #[error("find the sum of {file} in {url}")]
    NoSum { url: String, file: String },
    #[error("trust {url}: its SHA-256 sum is {got}, and its release says {want}")]
    WrongSum { url: String, want: String, got: String },
    #[error("trust release {version}: its sum is now {now}, and {} says {before}", record.display())]
    Changed { version: String, now: String, before: String, record: PathBuf },
    #[error("trust {}: {what}", path.display())]
    Record { path: PathBuf, what: String },
    #[error("unpack {url}")]
    Unpack { url: String, source: io::Error },
    #[error("find {program} in {url}")]
    Missing { url: String, program: &'static str },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Bytes that are looked at, at most.
#[derive(Debug, Clone, Copy)]
struct Limits {
    archive: u64,
    unpacked: u64,
}

/// Several times what a release has, its debug symbols included.
const LIMITS: Limits = Limits { archive: 128 << 20, unpacked: 512 << 20 };

/// A file of sums is one line.
const SUMS_LIMIT: u64 = 4 << 10;

/// Lays `firecracker` and `jailer` down in the folder `into`, each of them whole or not at all, in
/// place of those of an earlier release. `progress` hears how many bytes of the archive have come,
/// and of how many where the server says so.
///
/// Blocks, also while another process fetches into the same folder.
pub fn fetch(
    release: &Release,
    into: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Installed, ReleaseError> {
    release.fetch(into, LIMITS, progress)
}

impl Release {
    /// `version` as in [`VERSION`], `base` as in [`PUBLIC`]. Plain `http` is for this host's own
    /// loopback only.
    pub fn new(version: &str, base: &str) -> Result<Self, ReleaseError> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<_> = version.split('.').collect();
        if parts.len() != 3 || version.len() > 32 || !parts.into_iter().all(is_number) {
            return Err(ReleaseError::Version(version.to_owned()));
        }
        Ok(Self { version: version.to_owned(), place: Place::new(base)? })
    }

    fn fetch(
        &self,
        into: &Path,
        limits: Limits,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Installed, ReleaseError> {
        let _lock = lock(into).map_err(cannot_write(into))?;
        let mut record = Record::load(&into.join(record::FILE))?;
        let sum = self.published_sum()?;
        record.check(&self.version, &sum)?;
        let archive = self.archive(&sum, into, limits, progress)?;
        let programs = unpack::programs(archive, self, limits.unpacked, into)?;
        record.keep(&self.version, &sum)?;
        let [firecracker, jailer] = lay_down(programs, into)?;
        Ok(Installed { version: self.version.clone(), firecracker, jailer, sha256: sum })
    }

    /// The sum beside the archive, as `sha256sum` writes it.
    fn published_sum(&self) -> Result<String, ReleaseError> {
        let url = format!("{}.sha256.txt", self.url());
        let mut text = Vec::new();
        let target = Target { limit: SUMS_LIMIT, out: &mut text, progress: &mut |_, _| () };
        self.place.download(&url, target)?;
        let file = self.file();
        sum_of(&String::from_utf8_lossy(&text), &file).ok_or(ReleaseError::NoSum { url, file })
    }

    /// The archive in an unnamed file of the folder `beside`, with the sum that was published.
    fn archive(
        &self,
        want: &str,
        beside: &Path,
        limits: Limits,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<File, ReleaseError> {
        let url = self.url();
        let mut file = tempfile::tempfile_in(beside).map_err(cannot_write(beside))?;
        let target = Target { limit: limits.archive, out: &mut file, progress };
        let got = self.place.download(&url, target)?;
        if got != want {
            return Err(ReleaseError::WrongSum { url, want: want.to_owned(), got });
        }
        file.rewind().map_err(cannot_write(beside))?;
        Ok(file)
    }

    fn url(&self) -> String {
        format!("{}/v{}/{}", self.place.base(), self.version, self.file())
    }

    fn file(&self) -> String {
        format!("firecracker-{}.tgz", self.suffix())
    }

    /// A program's name in the archive.
    fn member(&self, program: &str) -> PathBuf {
        let suffix = self.suffix();
        PathBuf::from(format!("release-{suffix}/{program}-{suffix}"))
    }

    fn suffix(&self) -> String {
        format!("v{}-x86_64", self.version)
    }
}

/// The folder, made if need be, and held for this process.
fn lock(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = File::open(folder)?;
    held.lock()?;
    Ok(held)
}

/// The hexadecimal sum that a line `sum  file` or `sum *file` gives.
fn sum_of(sums: &str, file: &str) -> Option<String> {
    let mut lines = sums.lines().filter_map(|line| line.split_once([' ', '\t']));
    let named = |name: &str| name.trim_start_matches([' ', '\t', '*']) == file;
    let (sum, _) = lines.find(|(_, name)| named(name))?;
    let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| sum.to_ascii_lowercase())
}

fn lay_down(programs: [NamedTempFile; 2], into: &Path) -> Result<[PathBuf; 2], ReleaseError> {
    let paths = unpack::PROGRAMS.map(|program| into.join(program));
    for (program, path) in programs.into_iter().zip(&paths) {
        program.persist(path).map_err(|error| cannot_write(path)(error.error))?;
    }
    sync(into)?;
    Ok(paths)
}

/// Makes the names in a folder last.
fn sync(folder: &Path) -> Result<(), ReleaseError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot_write(folder))
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> ReleaseError + use<> {
    let path = path.to_owned();
    move |source| ReleaseError::Write { path: path.clone(), source }
}

#[cfg(test)]
mod tests;
