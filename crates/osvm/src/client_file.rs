//! The file of an MCP client on disk: found, read whole within a bound, replaced only as it was read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use osvm_daemon::text_file;
use osvm_spec::clients::{Client, ClientFile, ClientFileError, MAX, Place, Platform};

use crate::error::CliError;
use crate::{environment, output};

/// What a user names a client's file by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Client(Client),
    File(PathBuf),
}

/// A file as it was found.
#[derive(Debug)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    pub(crate) client: Option<Client>,
    /// `None` where there is none.
    pub(crate) text: Option<String>,
}

const PLATFORM: Platform =
    if cfg!(target_os = "macos") { Platform::MacOs } else { Platform::Linux };

impl FromStr for Source {
    type Err = String;

    /// A bare word is a client, unless there is such a file.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(client) => Ok(Self::Client(client)),
            Err(_) if text.contains(['/', '.']) || Path::new(text).exists() => {
                Ok(Self::File(text.into()))
            }
            Err(error) => Err(format!("{error}, or a file")),
        }
    }
}

impl Source {
    pub(crate) fn path(&self) -> Result<PathBuf, CliError> {
        match self {
            Self::File(path) => environment::absolute(path),
            Self::Client(client) => environment::in_user_home(&client.file(PLATFORM)),
        }
    }

    pub(crate) fn find(self) -> Result<FoundFile, CliError> {
        let path = self.path()?;
        let client = match self {
            Self::Client(client) => Some(client),
            Self::File(_) => None,
        };
        Ok(FoundFile { text: read(&path)?, path, client })
    }
}

impl FoundFile {
    /// What is in it; a file that is not there can't be imported from.
    pub(crate) fn existing(&self) -> Result<&str, CliError> {
        self.text.as_deref().ok_or_else(|| {
            let error = CliError::failed(format!("there is no file {}", self.path.display()));
            error.hint("name the client's file by its path")
        })
    }

    pub(crate) fn parse<'t>(&self, text: &'t str) -> Result<ClientFile<'t>, CliError> {
        ClientFile::parse(text).map_err(|error| self.fault(&error))
    }

    /// Where its servers stand, as seen from the current folder.
    pub(crate) fn places(&self, file: &ClientFile<'_>) -> Vec<Place> {
        let project = environment::current_folder();
        let project = project.as_deref();
        self.client.map_or_else(|| file.places(project), |client| client.places(project))
    }

    pub(crate) fn fault(&self, error: &ClientFileError) -> CliError {
        CliError::failed(format!("{}: {error}", self.path.display()))
    }

    /// The folder that its file lies in, made if the client is installed.
    pub(crate) fn make_folder(&self) -> Result<(), CliError> {
        let Some(parent) = self.path.parent().filter(|parent| !parent.is_dir()) else {
            return Ok(());
        };
        let own = match self.client {
            Some(client) => environment::in_user_home(client.folder(PLATFORM))?,
            None => parent.to_owned(),
        };
        if !own.is_dir() {
            let message = format!("there is no folder {}", own.display());
            return Err(CliError::failed(message).hint("install the client, and start it once"));
        }
        fs::create_dir_all(parent).map_err(|error| self.failed("make the folder of", &error))
    }

    /// Replaces the file, which must be as it was found. `None` takes it away.
    pub(crate) fn replace(&self, text: Option<&str>) -> Result<(), CliError> {
        if read(&self.path)? != self.text {
            let message =
                format!("{} was changed meanwhile, and is left alone", self.path.display());
            return Err(CliError::failed(message).hint("the same command again"));
        }
        let done = match text {
            Some(text) => text_file::replace(&self.path, text.as_bytes()),
            None => fs::remove_file(&self.path),
        };
        done.map_err(|error| self.failed("write", &error))
    }

    /// Shows what would become of the file, without what looks like a secret.
    pub(crate) fn show_change(&self, text: Option<&str>) -> Result<(), CliError> {
        let [old, new] = [self.text.as_deref(), text].map(|text| {
            let text = text.unwrap_or_default();
            self.parse(text).map(|file| file.masked())
        });
        let (old, new) = (old?, new?);
        let name = self.path.display().to_string();
        let diff = similar::TextDiff::from_lines(&old, &new);
        let diff = diff.unified_diff().context_radius(1).header(&name, &name).to_string();
        output::text(&output::safe(&diff))
    }

    fn failed(&self, act: &str, error: &io::Error) -> CliError {
        failed(act, &self.path, error)
    }
}

fn failed(act: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("can't {act} {}: {error}", path.display()))
}

/// `None` where there is no file.
fn read(path: &Path) -> Result<Option<String>, CliError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, &error)),
        Ok(about) if !about.is_file() => {
            return Err(CliError::failed(format!("{} is no regular file", path.display())));
        }
        Ok(_) => {}
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed("read", path, &error))?;
    let read = file.take(MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| failed("read", path, &error))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "{}").unwrap();
        let found = Source::File(path.clone()).find().unwrap();
        fs::write(&path, "{ }").unwrap();
        let error = found.replace(Some("{\"a\": 1}")).unwrap_err();
        assert!(error.message().contains("was changed meanwhile"), "{}", error.message());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ }");
        fs::remove_file(&path).unwrap();
        assert!(found.replace(None).is_err());
    }

    #[test]
    fn a_word_is_a_client_and_a_path_a_file() {
        assert_eq!("zed".parse(), Ok(Source::Client(Client::Zed)));
        assert_eq!("./zed".parse(), Ok(Source::File("./zed".into())));
        assert_eq!(".mcp.json".parse(), Ok(Source::File(".mcp.json".into())));
        assert!("notepad".parse::<Source>().unwrap_err().contains("claude-desktop"));
    }
}
