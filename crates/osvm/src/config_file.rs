//! The configuration file on disk.

use std::sync::{Arc, OnceLock};

use osvm_daemon::ConfigFileError;
use osvm_daemon::api::ApiError;
use osvm_daemon::text_file::TextFileError;
use osvm_spec::edit::EditError;
use osvm_spec::{Config, ConfigError, ServerName};

use crate::environment;
use crate::error::{CliError, Kind};

#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigFile(&'static osvm_daemon::ConfigFile);

impl ConfigFile {
    /// A process has one.
    pub(crate) fn open() -> Result<Self, CliError> {
        static FILE: OnceLock<osvm_daemon::ConfigFile> = OnceLock::new();
        let home = environment::home()?;
        Ok(Self(FILE.get_or_init(|| osvm_daemon::ConfigFile::of(&home))))
    }

    /// How messages call the file.
    pub(crate) fn name(self) -> String {
        self.0.name()
    }

    /// As it is at the moment.
    pub(crate) fn current(self) -> Result<Arc<Config>, CliError> {
        Ok(self.0.current().map_err(ApiError::from)?)
    }

    /// Replaces the text by what `change` makes of it and of the file's name. Edits wait for each other.
    pub(crate) fn edit<E: Into<CliError>>(
        self,
        change: impl FnOnce(&str, &str) -> Result<String, E>,
    ) -> Result<(), CliError> {
        self.0.edit(|text, name| change(text, name).map_err(E::into))
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
        ApiError::from(ConfigFileError::from(error)).into()
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
