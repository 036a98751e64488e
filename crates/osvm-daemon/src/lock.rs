//! `$OSVM_HOME/osvm.lock` on disk: what the user has accepted of each server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use osvm_spec::ServerName;
use osvm_spec::lock::{Definition, DefinitionError, Lock, LockError, Locked};
use thiserror::Error;

use crate::Home;
use crate::text_file::{Kept, TextFile, TextFileError};

/// Tools by their names.
pub type Tools = BTreeMap<String, Definition>;

/// Most bytes of one server's tools: a stranger's listing must not fill the file that all servers share.
const MOST_OF_ONE: usize = 2 << 20;

/// Read again only when it has changed: it is asked at each start of a server.
#[derive(Debug)]
pub struct LockFile {
    file: TextFile,
    kept: Kept<Result<Arc<Lock>, LockError>>,
}

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
    #[error("they take more than {} MiB", MOST_OF_ONE >> 20)]
    TooLong,
}

impl LockFile {
    pub fn of(home: &Home) -> Self {
        // `osvm.lock` is no lock of anything while it is written.
        Self { file: TextFile::new(home.lock_file(), "osvm.lock.held"), kept: Kept::default() }
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn read(&self) -> Result<Arc<Lock>, LockFileError> {
        let kept = self.kept.get(&self.file, |text| parse(text).map(Arc::new))?;
        kept.map_err(|error| self.wrong(error))
    }

    /// What was accepted of one server.
    pub fn of_server(&self, name: &ServerName) -> Result<Option<Locked>, LockFileError> {
        Ok(self.read()?.servers.get(name).cloned())
    }

    /// Edits wait for each other.
    pub fn edit(&self, change: impl FnOnce(&mut Lock)) -> Result<(), LockFileError> {
        self.file.edit(|text| {
            let mut lock = parse(text).map_err(|error| self.wrong(error))?;
            change(&mut lock);
            let text = lock.to_text();
            // What could not be read again is not written.
            parse(&text).map_err(|error| self.wrong(error))?;
            Ok(text)
        })
    }

    fn wrong(&self, source: LockError) -> LockFileError {
        LockFileError::Content { path: self.path().display().to_string(), source }
    }
}

fn parse(text: &str) -> Result<Lock, LockError> {
    match text {
        "" => Ok(Lock::default()),
        text => Lock::parse(text),
    }
}

/// By their names, out of a listing's elements.
pub fn tools<'a>(listed: impl IntoIterator<Item = &'a str>) -> Result<Tools, ToolsError> {
    let (mut tools, mut bytes) = (Tools::new(), 0);
    for text in listed {
        bytes += text.len();
        if bytes > MOST_OF_ONE {
            return Err(ToolsError::TooLong);
        }
        let tool = Definition::parse(text)?;
        if let Some(twice) = tools.insert(tool.name().to_owned(), tool) {
            return Err(ToolsError::Twice(twice.name().to_owned()));
        }
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_is_too_long_or_ambiguous_is_no_listing() {
        let tool = |name: &str, size: usize| {
            format!(r#"{{"name":"{name}","description":"{}"}}"#, "x".repeat(size))
        };
        let (small, large) = (tool("a", 9), tool("b", MOST_OF_ONE));
        assert_eq!(tools([small.as_str()]).unwrap().len(), 1);
        let both = tools([small.as_str(), &large]);
        assert!(matches!(both, Err(ToolsError::TooLong)));
        let twice = tools([small.as_str(), &small]);
        assert!(matches!(twice, Err(ToolsError::Twice(name)) if name == "a"));
        assert!(matches!(tools(["{}"]), Err(ToolsError::Definition(_))));
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_not_written_so_that_it_can_not_be() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned(), folder.path().to_owned());
        let (mine, other) = (LockFile::of(&home), LockFile::of(&home));
        let name: ServerName = "a".parse().unwrap();
        let locked = |integrity: &str| {
            let image = osvm_spec::Digest::of_hex(&"0".repeat(64)).unwrap();
            let pin = osvm_spec::lock::Pin {
                name: "npm:a".to_owned(),
                version: "1".to_owned(),
                integrity: integrity.to_owned(),
            };
            let (packages, tools) = ([pin].into(), osvm_spec::lock::Tools::Pending);
            Locked { image, origin: "x".to_owned(), packages, tools }
        };
        assert!(mine.of_server(&name).unwrap().is_none());
        other.edit(|lock| drop(lock.servers.insert(name.clone(), locked("sha512-x")))).unwrap();
        assert_eq!(mine.of_server(&name).unwrap(), Some(locked("sha512-x")));

        let refused = other.edit(|lock| drop(lock.servers.insert(name.clone(), locked("a b"))));
        assert!(matches!(refused, Err(LockFileError::Content { .. })));
        assert_eq!(other.of_server(&name).unwrap(), Some(locked("sha512-x")));
    }
}
