//! `$OSVM_HOME/isolation_config.toml` on disk: what the user has configured.

use std::sync::Arc;

use osvm_spec::{Config, ConfigError};
use thiserror::Error;

use crate::Home;
use crate::api::{ApiError, ErrorKind};
use crate::text_file::{Kept, TextFile, TextFileError};

/// Read again only when it has changed: it is asked at each request.
#[derive(Debug)]
pub struct ConfigFile {
    file: TextFile,
    kept: Kept<Result<Arc<Config>, ConfigError>>,
}

#[derive(Debug, Error)]
pub enum ConfigFileError {
    #[error(transparent)]
    File(#[from] TextFileError),
    #[error(transparent)]
    Content(#[from] ConfigError),
}

impl ConfigFile {
    pub fn of(home: &Home) -> Self {
        let file = TextFile::new(home.config(), "isolation_config.lock");
        Self { file, kept: Kept::default() }
    }

    /// How messages call the file.
    pub fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    /// As it is at the moment.
    pub fn current(&self) -> Result<Arc<Config>, ConfigFileError> {
        let parse = |text: &str| Config::parse(text, &self.name()).map(Arc::new);
        Ok(self.kept.get(&self.file, parse)??)
    }

    /// Replaces the text by what `change` makes of it and of the file's name. Edits wait for each other.
    pub fn edit<E: From<TextFileError>>(
        &self,
        change: impl FnOnce(&str, &str) -> Result<String, E>,
    ) -> Result<(), E> {
        self.file.edit(|text| change(text, &self.name()))
    }
}

impl From<ConfigFileError> for ApiError {
    fn from(error: ConfigFileError) -> Self {
        match error {
            ConfigFileError::File(error) => Self::failed(&error),
            ConfigFileError::Content(error) => {
                let hint = format!("edit {}", error.file);
                Self::new(ErrorKind::Usage, error.to_string()).hint(hint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_file_says_now_is_told_be_it_wrong_or_right() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned(), folder.path().to_owned());
        let file = ConfigFile::of(&home);
        assert!(file.current().unwrap().servers.is_empty());
        fs::write(home.config(), "[[servers]]\nid = \"a\"\n").unwrap();
        assert_eq!(file.current().unwrap().servers.len(), 1);
        fs::write(home.config(), "[[servers]]\nid = 7\n").unwrap();
        for _ in 0..2 {
            let error = ApiError::from(file.current().unwrap_err());
            assert!(error.message.contains("isolation_config.toml:2:"), "{}", error.message);
        }
        let mend = |text: &str, name: &str| {
            assert_eq!(name, file.name());
            Ok::<_, TextFileError>(text.replace('7', "\"b\""))
        };
        file.edit(mend).unwrap();
        assert_eq!(file.current().unwrap().servers[0].id.as_str(), "b");
    }
}
