//! The archive a guest kernel unpacks first: the user's (if any), kernel modules, the agent.
//!
//! The kernel unpacks one archive after the other, each compressed or not; a plain one begins on a
//! multiple of four bytes. The agent's comes last, so that nothing of the user's can replace it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::cpio::{ALIGNMENT, Writer};
use crate::files;

/// Where the agent is in every initramfs.
pub const AGENT_PATH: &str = "/.osvm/agent";

/// What nobody has started for so long goes when the next one is made.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Puts initramfs files together and keeps them in a folder, by what went into them.
#[derive(Debug, Clone)]
pub struct Assembler {
    cache: PathBuf,
    agent: Agent,
}

/// The static binary that becomes `/.osvm/agent`. Its bytes are part of the program's file, and cost nothing until they are
/// looked at.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    pub bytes: &'static [u8],
    /// Tells it from others.
    pub digest: &'static str,
}

/// Why there is no initramfs.
#[derive(Debug, Error)]
pub enum InitramfsError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("write initramfs {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Assembler {
    /// `cache` is made when first needed.
    pub fn new(cache: &Path, agent: Agent) -> Self {
        Self { cache: cache.to_owned(), agent }
    }

    /// The path of an initramfs made of `base` (a user's archive), `modules` and the agent.
    pub fn assemble(
        &self,
        base: Option<&Path>,
        modules: Option<&Path>,
    ) -> Result<PathBuf, InitramfsError> {
        let parts: Vec<_> = base.into_iter().chain(modules).collect();
        let path = self.cache.join(format!("initramfs-{}.cpio", self.key(&parts)?));
        let failed = |source| InitramfsError::Write { path: path.clone(), source };
        if used_now(&path) {
            return Ok(path);
        }
        // One at a time: a hundred launches at once are not to write a hundred copies.
        let _lock = self.lock().map_err(failed)?;
        if !used_now(&path) {
            files::write_whole(&path, |out| self.write(out, &parts)).map_err(failed)?;
            self.prune(&path).map_err(failed)?;
        }
        Ok(path)
    }

    fn lock(&self) -> io::Result<File> {
        files::make_folder(&self.cache)?;
        let file = File::create(self.cache.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Removes what was last used long before `newest` was made.
    fn prune(&self, newest: &Path) -> io::Result<()> {
        let now = newest.metadata()?.modified()?;
        for entry in fs::read_dir(&self.cache)?.flatten() {
            let ours = entry.file_name().as_bytes().starts_with(b"initramfs-");
            let used = entry.metadata()?.modified()?;
            if ours && now.duration_since(used).is_ok_and(|age| age > KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Names the parts by what `stat` shows of them: images and modules are written once and then
    /// only replaced as a whole, and hashing them would cost more than all the rest of a launch.
    fn key(&self, parts: &[&Path]) -> Result<String, InitramfsError> {
        let mut hash = Sha256::new();
        hash.update(self.agent.digest);
        for part in parts {
            let failed = |source| InitramfsError::Read { path: (*part).to_owned(), source };
            let meta = part.metadata().map_err(failed)?;
            hash.update(part.as_os_str().as_bytes());
            let (seconds, nanos) =
                (meta.mtime().cast_unsigned(), meta.mtime_nsec().cast_unsigned());
            for number in [meta.len(), meta.ino(), seconds, nanos] {
                hash.update(number.to_le_bytes());
            }
        }
        Ok(files::hex(&hash.finalize()[..16]))
    }

    fn write(&self, out: &mut dyn Write, parts: &[&Path]) -> io::Result<()> {
        for part in parts {
            let copied = io::copy(&mut File::open(part)?, out)?;
            let padding = copied.next_multiple_of(ALIGNMENT) - copied;
            io::copy(&mut io::repeat(0).take(padding), out)?;
        }
        let mut writer = Writer::new(out);
        writer.folder("/.osvm", 0o755)?;
        // Where the agent mounts what the user's archive may not have brought.
        for mount_point in ["/dev", "/proc", "/sys"] {
            writer.folder(mount_point, 0o755)?;
        }
        writer.file(AGENT_PATH, 0o755, self.agent.bytes)?;
        writer.finish().map(drop)
    }
}

/// Whether it is there; if so, it is marked as used.
fn used_now(path: &Path) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, path, &times, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(digest: &'static str) -> Agent {
        Agent { bytes: b"agent", digest }
    }

    #[test]
    fn the_agent_comes_last_and_the_same_parts_give_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.cpio");
        std::fs::write(&base, b"12345").unwrap();
        let assembler = Assembler::new(folder.path(), agent("1"));
        let first = assembler.assemble(Some(&base), None).unwrap();
        let bytes = std::fs::read(&first).unwrap();
        assert!(bytes.starts_with(b"12345\x00\x00\x00070701"));
        assert_eq!(assembler.assemble(Some(&base), None).unwrap(), first);
        std::fs::write(&base, b"54321").unwrap();
        assert_ne!(assembler.assemble(Some(&base), None).unwrap(), first);
    }

    #[test]
    fn what_was_not_used_for_long_goes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let assembler = |digest| Assembler::new(folder.path(), agent(digest));
        let old = assembler("old").assemble(None, None).unwrap();
        let recent = assembler("recent").assemble(None, None).unwrap();
        let long_ago = fs::metadata(&old).unwrap().modified().unwrap() - 2 * KEPT;
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        assembler("new").assemble(None, None).unwrap();
        assert!(!old.exists() && recent.exists());
    }
}
