//! The folder of one running VM: made with care, found again, removed whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::id::VmId;

/// `<runtime dir>/microvm-<id>/`, mode 0700, owned by this user.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// A lock on the folder, held for as long as the daemon lives that made it: before its record is
    /// written, nothing else tells that it is somebody's.
    claim: Option<File>,
}

#[derive(Debug, Error)]
pub(crate) enum RunDirError {
    #[error("make run directory {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("read runtime directory {}", path.display())]
    Scan { path: PathBuf, source: io::Error },
    #[error("keep logs of {} in {}", from.display(), to.display())]
    KeepLogs { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("remove run directory {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

/// What every run directory's name begins with.
pub(crate) const PREFIX: &str = "microvm-";

impl RunDir {
    /// Makes the folder and its `logs/`. Fails when anything of that name exists.
    pub(crate) fn make(runtime_dir: &Path, id: &VmId) -> Result<Self, RunDirError> {
        let path = runtime_dir.join(format!("{PREFIX}{id}"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| RunDirError::Make { path, source }
        };
        let claim = loop {
            make_private(&path).map_err(failed(&path))?;
            // Another daemon may have taken it for one that nobody claims.
            if let Some(claim) = claim(&path).map_err(failed(&path))? {
                break claim;
            }
        };
        let dir = Self { path, claim: Some(claim) };
        if let Err(error) = make_private(&dir.logs()) {
            let _ = fs::remove_dir(&dir.path);
            return Err(failed(&dir.logs())(error));
        }
        Ok(dir)
    }

    /// Every run directory of this user; another user's are not looked into.
    pub(crate) fn scan(runtime_dir: &Path) -> Result<Vec<Self>, RunDirError> {
        let failed = |source| RunDirError::Scan { path: runtime_dir.to_owned(), source };
        let user = rustix::process::getuid().as_raw();
        let mut found = Vec::new();
        for entry in fs::read_dir(runtime_dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
                && fs::symlink_metadata(entry.path())
                    .is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
            if ours {
                found.push(Self { path: entry.path(), claim: None });
            }
        }
        Ok(found)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.path.join("state.json")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The hosts that the guest asks for, and what is decided.
    pub(crate) fn egress_log(&self) -> PathBuf {
        self.logs().join("egress.log")
    }

    /// Where a lent folder's server listens.
    pub(crate) fn folder_socket(&self, number: usize) -> PathBuf {
        folder_socket(&self.path, number)
    }

    /// What the VMM itself says: its standard error.
    pub(crate) fn vmm_log(&self) -> PathBuf {
        self.logs().join("vmm.log")
    }

    /// Whether the daemon that made the folder lives. One that can't be looked into counts as claimed.
    pub(crate) fn is_claimed(&self) -> bool {
        let lock = |folder: File| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
        self.claim.is_some() || !File::open(&self.path).is_ok_and(lock)
    }

    /// Removes a folder that no VM ever used.
    pub(crate) fn discard(self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(dir = %self.path.display(), %error, "clean-up");
        }
    }

    /// Removes what a machine that has ended has left, for another one in the same place. Record and logs stay, and that
    /// it was given secrets.
    pub(crate) fn empty(&self) -> Result<(), RunDirError> {
        let failed = |source| RunDirError::Remove { path: self.path.clone(), source };
        let stays = [self.record(), self.logs(), secrets_mark(&self.path)];
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if stays.contains(&entry.path()) {
                continue;
            }
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
            remove(entry.path()).map_err(failed)?;
        }
        Ok(())
    }

    /// Moves the logs to `keep` and removes everything else. The folder goes even when its logs
    /// can't be kept: a full disk must not leave VMs behind.
    pub(crate) fn remove(self, keep: &Path) -> Result<(), RunDirError> {
        let kept = move_files(&self.logs(), keep).map_err(|source| RunDirError::KeepLogs {
            from: self.logs(),
            to: keep.to_owned(),
            source,
        });
        fs::remove_dir_all(&self.path)
            .map_err(|source| RunDirError::Remove { path: self.path.clone(), source })?;
        kept
    }
}

/// In the run directory `dir` of a guest that was ever given a secret.
pub(crate) fn secrets_mark(dir: &Path) -> PathBuf {
    dir.join("holds-secrets")
}

/// The same in the run directory `dir`.
pub(crate) fn folder_socket(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("folder-{number}"))
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Locks a folder; `None` when it was removed before that.
fn claim(path: &Path) -> io::Result<Option<File>> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder?,
    };
    rustix::io::retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
    let is_there = folder.metadata()?.nlink() > 0;
    Ok(is_there.then_some(folder))
}

fn move_files(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // The runtime directory is often another file system, where a rename can't reach.
        if fs::rename(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_kept_and_nothing_else() {
        let runtime = tempfile::tempdir().unwrap();
        let keep = tempfile::tempdir().unwrap();
        let keep = keep.path().join("demo").join("1");
        let dir = RunDir::make(runtime.path(), &VmId::random()).unwrap();
        fs::write(dir.logs().join("console.log"), "up").unwrap();
        fs::write(dir.record(), "{}").unwrap();
        dir.remove(&keep).unwrap();
        assert_eq!(fs::read_to_string(keep.join("console.log")).unwrap(), "up");
        assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_emptied_folder_has_record_logs_and_mark() {
        let runtime = tempfile::tempdir().unwrap();
        let dir = RunDir::make(runtime.path(), &VmId::random()).unwrap();
        fs::create_dir_all(dir.path().join("vmm/folder")).unwrap();
        let stays = [dir.record(), dir.logs().join("console.log"), secrets_mark(dir.path())];
        for file in stays.iter().chain([&dir.path().join("link.sock")]) {
            fs::write(file, "").unwrap();
        }
        dir.empty().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(stays.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_folder_that_is_already_there_is_never_taken_over() {
        let runtime = tempfile::tempdir().unwrap();
        let id = VmId::random();
        fs::create_dir(runtime.path().join(format!("microvm-{id}"))).unwrap();
        assert!(RunDir::make(runtime.path(), &id).is_err());
    }

    #[test]
    fn a_folder_is_claimed_for_as_long_as_its_maker_lives() {
        let runtime = tempfile::tempdir().unwrap();
        let made = RunDir::make(runtime.path(), &VmId::random()).unwrap();
        let found = || RunDir::scan(runtime.path()).unwrap().pop().unwrap();
        assert!(made.is_claimed() && found().is_claimed());
        drop(made);
        assert!(!found().is_claimed());
        found().discard();
        assert!(claim(&runtime.path().join("gone")).unwrap().is_none());
    }

    #[test]
    fn a_link_that_looks_like_a_run_directory_is_not_followed() {
        let runtime = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", runtime.path().join("microvm-trap")).unwrap();
        assert!(RunDir::scan(runtime.path()).unwrap().is_empty());
    }
}
