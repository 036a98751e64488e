//! The configuration file on disk.

use std::sync::{Arc, LazyLock};

use osvm_daemon::text_file::{Kept, TextFile, TextFileError};
use osvm_spec::edit::EditError;
use osvm_spec::{Config, ConfigError, ServerName};

use crate::environment;
use crate::error::{CliError, Kind};

#[derive(Debug)]
pub(crate) struct ConfigFile(TextFile);

/// As it was read the last time: a process has one home.
static LAST: LazyLock<Kept<Config>> = LazyLock::new(Kept::default);

impl ConfigFile {
    pub(crate) fn open() -> Result<Self, CliError> {
        let path = environment::home()?.config();
        Ok(Self(TextFile::new(path, "isolation_config.lock")))
    }

    /// How messages call the file.
    pub(crate) fn name(&self) -> String {
        self.0.path().display().to_string()
    }

    pub(crate) fn read(&self) -> Result<Config, CliError> {
        Config::parse(&self.0.text()?, &self.name()).map_err(CliError::from)
    }

    /// The same, but read again only when the file has changed.
    pub(crate) fn current(&self) -> Result<Arc<Config>, CliError> {
        LAST.get(&self.0, |text| Ok(Config::parse(text, &self.name())?))
    }

    /// Replaces the text by what `change` makes of it. Edits wait for each other.
    pub(crate) fn edit<E: Into<CliError>>(
        &self,
        change: impl FnOnce(&str, &str) -> Result<String, E>,
    ) -> Result<(), CliError> {
        self.0.edit(|text| change(text, &self.name()).map_err(E::into))
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

impl From<TextFileError> for CliError {
    fn from(error: TextFileError) -> Self {
        Self::failed(error.to_string())
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
            EditError::TokenExists(name) => Self::failed(error.to_string())
                .hint(format!("osvm mcp gateway-token remove {name}")),
            EditError::NoSuchToken(_) => {
                Self::new(Kind::NoSuch, error.to_string()).hint("osvm mcp gateway-token list")
            }
        }
    }
}
