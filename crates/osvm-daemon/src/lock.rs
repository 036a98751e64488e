//! `$OSVM_HOME/osvm.lock` on disk: what the user has accepted of each server.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use osvm_spec::ServerName;
use osvm_spec::lock::{Definition, DefinitionError, Lock, LockError, Locked};
use thiserror::Error;

use crate::Home;
use crate::text_file::{TextFile, TextFileError};

/// Tools by their names.
pub type Tools = BTreeMap<String, Definition>;

/// Read again only when it has changed: it is asked at each start of a server.
#[derive(Debug)]
pub struct LockFile {
    file: TextFile,
    last: Mutex<Option<(Looks, Arc<Lock>)>>,
}

/// Inode, size, and time of change.
type Looks = (u64, u64, i64, i64);

#[derive(Debug, Error)]
pub enum LockFileError {
    #[error(transparent)]
    File(#[from] TextFileError),
    #[error("{path}: {source}")]
    Content { path: String, source: LockError },
}

/// Why a listing can't be compared with what was accepted.
#[derive(Debug, Error)]
pub enum ToolsError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error("two tools are called {0:?}")]
    Twice(String),
}

impl LockFile {
    pub fn of(home: &Home) -> Self {
        // `osvm.lock` is no lock of anything while it is written.
        Self { file: TextFile::new(home.lock_file(), "osvm.lock.held"), last: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn read(&self) -> Result<Arc<Lock>, LockFileError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks(self.path());
        if let Some((_, lock)) = last.as_ref().filter(|(was, _)| Some(*was) == looks) {
            return Ok(Arc::clone(lock));
        }
        let lock = Arc::new(self.parse(&self.file.text()?)?);
        *last = looks.map(|looks| (looks, Arc::clone(&lock)));
        Ok(lock)
    }

    /// What was accepted of one server.
    pub fn of_server(&self, name: &ServerName) -> Result<Option<Locked>, LockFileError> {
        Ok(self.read()?.servers.get(name).cloned())
    }

    /// Edits wait for each other.
    pub fn edit(&self, change: impl FnOnce(&mut Lock)) -> Result<(), LockFileError> {
        self.file.edit(|text| {
            let mut lock = self.parse(text)?;
            change(&mut lock);
            Ok(lock.to_text())
        })
    }

    fn parse(&self, text: &str) -> Result<Lock, LockFileError> {
        if text.is_empty() {
            return Ok(Lock::default());
        }
        let path = || self.path().display().to_string();
        Lock::parse(text).map_err(|source| LockFileError::Content { path: path(), source })
    }
}

fn looks(path: &Path) -> Option<Looks> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// By their names, out of a listing's elements.
pub fn tools<'a>(listed: impl IntoIterator<Item = &'a str>) -> Result<Tools, ToolsError> {
    let mut tools = Tools::new();
    for text in listed {
        let tool = Definition::parse(text)?;
        if let Some(twice) = tools.insert(tool.name().to_owned(), tool) {
            return Err(ToolsError::Twice(twice.name().to_owned()));
        }
    }
    Ok(tools)
}
