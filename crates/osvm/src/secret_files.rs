//! Secrets that osvm keeps for a server: `$OSVM_HOME/secrets/SERVER/VARIABLE`, a file of the user's alone for each.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use osvm_daemon::text_file;
use osvm_spec::{SecretRule, ServerName, Source};

use crate::error::CliError;
use crate::{environment, secrets};

const FOLDER: &str = "secrets";

/// A variable, the rule that says where its value lies, and the value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeptSecret {
    pub(crate) rule: SecretRule,
    value: String,
}

impl KeptSecret {
    /// Nothing is written yet. Its name must be a plain one: it becomes a file's.
    pub(crate) fn new(server: &ServerName, name: &str, value: String) -> Result<Self, CliError> {
        let plain: SecretRule = name
            .parse()
            .map_err(|_| CliError::failed(format!("{name:?} can't be a secret's name")))?;
        // Seen from the configuration file, beside which the folder lies.
        let source = Source::File(format!("{FOLDER}/{server}/{}", plain.name));
        Ok(Self { rule: SecretRule { name: plain.name, source }, value })
    }

    /// Whether the file holds this value already.
    pub(crate) fn is_written(&self) -> bool {
        let read = secrets::gather(std::slice::from_ref(&self.rule));
        read.is_ok_and(|read| read.pairs().all(|(_, value)| *value == self.value))
    }
}

/// Where the server's secrets lie.
pub(crate) fn folder(server: &ServerName) -> Result<PathBuf, CliError> {
    Ok(environment::home()?.root().join(FOLDER).join(server.as_str()))
}

/// Writes all of a server's, in place of what was there under its name.
pub(crate) fn write(server: &ServerName, secrets: &[KeptSecret]) -> Result<(), CliError> {
    remove(server)?;
    if secrets.is_empty() {
        return Ok(());
    }
    let folder = folder(server)?;
    let written = make_private(&folder).and_then(|()| {
        let value = |secret: &KeptSecret| format!("{}\n", secret.value);
        secrets.iter().try_for_each(|secret| {
            text_file::replace(&folder.join(&secret.rule.name), value(secret).as_bytes())
        })
    });
    written.map_err(|error| {
        let _ = fs::remove_dir_all(&folder);
        CliError::failed(format!("can't write secrets to {}: {error}", folder.display()))
    })
}

/// Forgets them.
pub(crate) fn remove(server: &ServerName) -> Result<(), CliError> {
    let folder = folder(server)?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::failed(format!("can't remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Makes the folder, and lets nobody else into it, or into the one above.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}
