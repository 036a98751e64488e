//! A published Firecracker release, brought to this host when the user asks for it: downloaded,
//! checked against its published SHA-256 sum, and only then unpacked.
//!
//! The sum comes from the same place as the archive, so it shows damage and mix-ups; that the place
//! is the right one is shown by TLS. Both programs come from one archive and are laid down together,
//! since each jailer belongs to the Firecracker of its own version.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use ureq::Agent;

/// Where the project publishes its releases.
pub const PUBLIC: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";

/// A file of sums is one line.
const SUMS_LIMIT: u64 = 4 << 10;

/// Release 1.16's archive, debug symbols included, has about 20 MiB.
const ARCHIVE_LIMIT: u64 = 256 << 20;

/// Each program has 2 to 7 MiB.
const PROGRAM_LIMIT: u64 = 64 << 20;

/// Until the server answers, and until it has sent everything.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Which release, and the way to it.
#[derive(Debug, Clone)]
pub struct Release {
    /// As in [`PUBLIC`]. Plain `http` is for this host's own loopback only.
    pub base: String,
    /// As in `1.16.1`.
    pub version: String,
    /// An HTTP proxy's URL.
    pub proxy: Option<String>,
}

/// A release on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub firecracker: PathBuf,
    pub jailer: PathBuf,
    /// The archive's sum, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("'{0}' is not a release's version: numbers and dots are")]
    Version(String),
    #[error("no release is downloaded from {0}: it is neither https nor on this host's loopback")]
    Insecure(String),
    #[error("proxy {proxy} cannot be used")]
    Proxy { proxy: String, source: Box<ureq::Error> },
    #[error("cannot download {url}")]
    Get { url: String, source: Box<ureq::Error> },
    #[error("cannot read {url} to its end")]
    Cut { url: String, source: io::Error },
    #[error("{url} has more than {limit} bytes")]
    TooBig { url: String, limit: u64 },
    #[error("{url} does not hold the sum of {file}")]
    NoSum { url: String, file: String },
    #[error("{url} has the SHA-256 sum {got}, but its release says {want}")]
    WrongSum { url: String, want: String, got: String },
    #[error("{url} cannot be unpacked")]
    Unpack { url: String, source: io::Error },
    #[error("{url} holds no {program}")]
    Missing { url: String, program: &'static str },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

impl Release {
    /// Lays `firecracker` and `jailer` down in `folder`, or finds them there from an earlier time.
    /// `progress` hears how many bytes have come, and of how many where the server says so.
    ///
    /// Blocks. `folder` appears complete or not at all, and its parent exists.
    pub fn install(
        &self,
        folder: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Installed, ReleaseError> {
        if let Some(installed) = Installed::at(folder) {
            return Ok(installed);
        }
        let archive = self.archive()?;
        let download = Download { agent: self.agent()?, url: archive.url(&self.base) };
        let want = archive.published_sum(&download)?;
        let mut file = tempfile::tempfile_in(parent(folder)).map_err(cannot_write(folder))?;
        let got = download.fetch(ARCHIVE_LIMIT, &mut file, progress)?;
        if got != want {
            return Err(ReleaseError::WrongSum { url: download.url, want, got });
        }
        file.rewind().map_err(cannot_write(folder))?;
        lay_down(&archive, &download.url, &file, &want, folder)
    }

    fn archive(&self) -> Result<Archive, ReleaseError> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !self.version.split('.').all(is_number) {
            return Err(ReleaseError::Version(self.version.clone()));
        }
        Ok(Archive { version: self.version.clone() })
    }

    fn agent(&self) -> Result<Agent, ReleaseError> {
        let https_only = self.base.starts_with("https://");
        if !https_only && !is_loopback(&self.base) {
            return Err(ReleaseError::Insecure(self.base.clone()));
        }
        let proxy = self.proxy.as_deref().map(ureq::Proxy::new).transpose().map_err(|source| {
            let proxy = self.proxy.clone().unwrap_or_default();
            ReleaseError::Proxy { proxy, source: Box::new(source) }
        })?;
        let config = Agent::config_builder()
            .https_only(https_only)
            .proxy(proxy)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .timeout_recv_response(Some(CONNECT_DEADLINE))
            .timeout_global(Some(DEADLINE));
        Ok(config.build().into())
    }
}

fn is_loopback(base: &str) -> bool {
    let starts = ["http://127.0.0.1:", "http://[::1]:"];
    starts.iter().any(|start| base.starts_with(start)) && !base.contains('@')
}

impl Installed {
    const SUM: &str = "archive.sha256";

    fn at(folder: &Path) -> Option<Self> {
        let sha256 = fs::read_to_string(folder.join(Self::SUM)).ok()?.trim().to_owned();
        let installed = Self::of(folder, sha256);
        (installed.firecracker.is_file() && installed.jailer.is_file()).then_some(installed)
    }

    fn of(folder: &Path, sha256: String) -> Self {
        Self { firecracker: folder.join("firecracker"), jailer: folder.join("jailer"), sha256 }
    }
}

/// The names in a release.
struct Archive {
    version: String,
}

impl Archive {
    fn file(&self) -> String {
        format!("firecracker-{}.tgz", self.suffix())
    }

    fn suffix(&self) -> String {
        format!("v{}-x86_64", self.version)
    }

    fn url(&self, base: &str) -> String {
        format!("{}/v{}/{}", base.trim_end_matches('/'), self.version, self.file())
    }

    fn member(&self, program: &str) -> PathBuf {
        let suffix = self.suffix();
        PathBuf::from(format!("release-{suffix}/{program}-{suffix}"))
    }

    /// The sum beside the archive, as `sha256sum` writes it.
    fn published_sum(&self, archive: &Download) -> Result<String, ReleaseError> {
        let url = format!("{}.sha256.txt", archive.url);
        let sums = Download { agent: archive.agent.clone(), url };
        let mut text = Vec::new();
        sums.fetch(SUMS_LIMIT, &mut text, &mut |_, _| ())?;
        let file = self.file();
        sum_of(&String::from_utf8_lossy(&text), &file)
            .ok_or(ReleaseError::NoSum { url: sums.url, file })
    }
}

fn sum_of(sums: &str, file: &str) -> Option<String> {
    let lines = sums.lines().filter_map(|line| line.split_once([' ', '\t']));
    let named = |name: &str| name.trim_start_matches([' ', '\t', '*']) == file;
    let sum = lines.filter(|(_, name)| named(name)).map(|(sum, _)| sum).next()?;
    let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| sum.to_ascii_lowercase())
}

struct Download {
    agent: Agent,
    url: String,
}

impl Download {
    /// Writes what is there into `out`, but never more than `limit`; gives its SHA-256 sum.
    fn fetch(
        &self,
        limit: u64,
        out: &mut dyn io::Write,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<String, ReleaseError> {
        let response = self.agent.get(&self.url).call();
        let body = response.map_err(|source| self.get(source))?.into_body();
        let size = body.content_length();
        let mut body = body.into_reader().take(limit + 1);
        let (mut sum, mut done, mut block) = (Sha256::new(), 0, vec![0; 64 << 10]);
        loop {
            let count = body.read(&mut block).map_err(|source| self.cut(source))?;
            if count == 0 {
                return Ok(hexadecimal(&sum.finalize()));
            }
            done += count as u64;
            if done > limit {
                return Err(ReleaseError::TooBig { url: self.url.clone(), limit });
            }
            sum.update(&block[..count]);
            out.write_all(&block[..count]).map_err(|source| self.cut(source))?;
            progress(done, size);
        }
    }

    fn get(&self, source: ureq::Error) -> ReleaseError {
        ReleaseError::Get { url: self.url.clone(), source: Box::new(source) }
    }

    fn cut(&self, source: io::Error) -> ReleaseError {
        ReleaseError::Cut { url: self.url.clone(), source }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything into a new folder beside `folder`, then that folder into place.
fn lay_down(
    archive: &Archive,
    url: &str,
    file: &File,
    sum: &str,
    folder: &Path,
) -> Result<Installed, ReleaseError> {
    let new = tempfile::tempdir_in(parent(folder)).map_err(cannot_write(folder))?;
    unpack(archive, url, file, new.path())?;
    write(&new.path().join(Installed::SUM), &mut sum.as_bytes(), 0o644)?;
    fs::set_permissions(new.path(), Permissions::from_mode(0o755)).map_err(cannot_write(folder))?;
    // What is there already is not complete, or it would have been found.
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cannot_write(folder)(error));
        }
        _ => fs::rename(new.path(), folder).map_err(cannot_write(folder))?,
    }
    Ok(Installed::of(folder, sum.to_owned()))
}

/// The two programs of the archive, and nothing else of it, into `folder`.
fn unpack(archive: &Archive, url: &str, file: &File, folder: &Path) -> Result<(), ReleaseError> {
    let cannot_unpack = |source| ReleaseError::Unpack { url: url.to_owned(), source };
    let mut missing = vec!["firecracker", "jailer"];
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    for entry in tar.entries().map_err(cannot_unpack)? {
        let mut entry = entry.map_err(cannot_unpack)?;
        let path = entry.path().map_err(cannot_unpack)?.into_owned();
        let is_wanted = |program: &&str| path == archive.member(program);
        let Some(index) = missing.iter().position(is_wanted) else { continue };
        if !entry.header().entry_type().is_file() || entry.size() > PROGRAM_LIMIT {
            continue;
        }
        write(&folder.join(missing.swap_remove(index)), &mut entry, 0o755)?;
    }
    missing
        .first()
        .map_or(Ok(()), |program| Err(ReleaseError::Missing { url: url.to_owned(), program }))
}

fn write(path: &Path, content: &mut dyn Read, mode: u32) -> Result<(), ReleaseError> {
    let written = File::create_new(path).and_then(|mut file| {
        io::copy(content, &mut file)?;
        file.flush()?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    });
    written.map_err(cannot_write(path))
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> ReleaseError {
    let path = path.to_owned();
    move |source| ReleaseError::Write { path: path.clone(), source }
}

fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
