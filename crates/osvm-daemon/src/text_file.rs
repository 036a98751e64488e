//! A small text file of the home's: read whole, changed under a lock, replaced at once.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::api::ApiError;

#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    /// Beside the file, because the file is replaced.
    lock: PathBuf,
}

#[derive(Debug, Error)]
#[error("can't {act} {}: {source}", path.display())]
pub struct TextFileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl TextFile {
    /// `lock` is the name of a file beside it.
    pub fn new(path: PathBuf, lock: &str) -> Self {
        let lock = path.with_file_name(lock);
        Self { path, lock }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file that is not there is empty.
    pub fn text(&self) -> Result<String, TextFileError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(self.failed("read")),
        }
    }

    /// Replaces the text by what `change` makes of it. Edits wait for each other.
    pub fn edit<E: From<TextFileError>>(
        &self,
        change: impl FnOnce(&str) -> Result<String, E>,
    ) -> Result<(), E> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(self.failed("make folder of"))?;
        let _lock = self.lock().map_err(self.failed("lock"))?;
        let old = self.text()?;
        let new = change(&old)?;
        if new != old {
            replace(&self.path, new.as_bytes()).map_err(self.failed("write"))?;
        }
        Ok(())
    }

    /// Held until the file is dropped.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let lock = options.create(true).append(true).mode(0o600).open(&self.lock)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn failed(&self, act: &'static str) -> impl FnOnce(io::Error) -> TextFileError {
        let path = self.path.clone();
        move |source| TextFileError { act, path, source }
    }
}

/// What was made of a file's text, made again only when the file has changed.
#[derive(Debug)]
pub struct Kept<T>(Mutex<Option<(Looks, T)>>);

/// Inode, size, and times of change, of which whoever changes the file can set but one.
type Looks = (u64, u64, [i64; 4]);

impl From<TextFileError> for ApiError {
    fn from(error: TextFileError) -> Self {
        Self::failed(&error)
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    pub fn get(&self, file: &TextFile, make: impl FnOnce(&str) -> T) -> Result<T, TextFileError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks(file.path());
        if let Some((_, kept)) = last.as_ref().filter(|(was, _)| Some(*was) == looks) {
            return Ok(kept.clone());
        }
        let made = make(&file.text()?);
        *last = looks.map(|looks| (looks, made.clone()));
        Ok(made)
    }
}

fn looks(path: &Path) -> Option<Looks> {
    let found = fs::metadata(path).ok()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Some((found.ino(), found.size(), times))
}

/// At once: written beside it, synced, renamed. A link to the file stays a link, and the file keeps its mode. A new one
/// is the user's alone.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&target).map_or(0o600, |old| old.permissions().mode());
    let folder = target.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&target)?;
    Ok(())
}
