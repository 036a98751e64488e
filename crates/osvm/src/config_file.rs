//! The configuration file on disk: read whole, changed under a lock, replaced at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use osvm_daemon::Home;
use osvm_spec::edit::EditError;
use osvm_spec::{Config, ConfigError, ServerName};
use rustix::fs::{FlockOperation, flock};

use crate::error::{CliError, Kind};
use crate::{environment, replacement};

pub(crate) struct ConfigFile {
    home: Home,
    path: PathBuf,
}

impl ConfigFile {
    pub(crate) fn open() -> Result<Self, CliError> {
        let home = environment::home()?;
        Ok(Self { path: home.config(), home })
    }

    /// How messages call the file.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) fn read(&self) -> Result<Config, CliError> {
        Config::parse(&self.text()?, &self.name()).map_err(CliError::from)
    }

    /// Replaces the text by what `change` makes of it. Edits wait for each other.
    pub(crate) fn edit<E: Into<CliError>>(
        &self,
        change: impl FnOnce(&str, &str) -> Result<String, E>,
    ) -> Result<(), CliError> {
        self.make_folder().map_err(|error| self.failed("make folder of", &error))?;
        let _lock = self.lock().map_err(|error| self.failed("lock", &error))?;
        let text = change(&self.text()?, &self.name()).map_err(E::into)?;
        replacement::replace(&self.path, text.as_bytes())
            .map_err(|error| self.failed("write", &error))
    }

    /// The file's text; a file that is not there is empty.
    fn text(&self) -> Result<String, CliError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|error| self.failed("read", &error)),
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.home.root())
    }

    /// Held until the file is dropped. The lock is beside the file because the file is replaced.
    fn lock(&self) -> io::Result<File> {
        let path = self.path.with_extension("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn failed(&self, act: &str, error: &io::Error) -> CliError {
        CliError::failed(format!("can't {act} {}: {error}", self.name()))
    }
}

/// What to say about a name that nothing is registered under.
pub(crate) fn no_such(name: &ServerName, nearest: Option<&ServerName>) -> CliError {
    let error = CliError::new(Kind::NoSuch, format!("no server is called {name}"));
    match nearest {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("osvm mcp list"),
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let hint = format!("edit {}", error.file);
        Self::usage(error.to_string()).hint(hint)
    }
}

impl From<EditError> for CliError {
    fn from(error: EditError) -> Self {
        match &error {
            EditError::Config(fault) => fault.clone().into(),
            EditError::NoSuch { name, nearest } => no_such(name, nearest.as_ref()),
            EditError::Exists(name) => {
                Self::failed(error.to_string()).hint(format!("osvm mcp remove {name}"))
            }
        }
    }
}
