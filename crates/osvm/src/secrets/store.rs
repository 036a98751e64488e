//! Values of secrets that osvm keeps: `$OSVM_HOME/secrets/SERVER/VARIABLE`, each for its owner alone to read.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use osvm_spec::{SecretRuleError, ServerName};
use tempfile::NamedTempFile;

use crate::environment;
use crate::error::CliError;

/// Writes the value, in place of an earlier one, and tells which file holds it.
pub(crate) fn keep(server: &ServerName, variable: &str, value: &str) -> Result<PathBuf, CliError> {
    // It becomes the name of a file.
    if variable.is_empty() || !variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(CliError::usage(SecretRuleError::Name.to_string()));
    }
    let file = folder(server)?.join(variable);
    let written = write(&file, value);
    written
        .map_err(|error| CliError::failed(format!("can't write {}: {error}", file.display())))?;
    Ok(file)
}

/// Removes what is kept for a server.
pub(crate) fn forget(server: &ServerName) -> Result<(), CliError> {
    let folder = folder(server)?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::failed(format!("can't remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

fn folder(server: &ServerName) -> Result<PathBuf, CliError> {
    Ok(environment::home()?.secrets().join(server.as_str()))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    // Of mode 0600 from its beginning.
    let mut file = NamedTempFile::new_in(folder)?;
    // Readers take the last newline away.
    file.write_all(value.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
