//! A server on its way into the configuration: what `add` and `import` have in common.

use std::path::Path;

use osvm_spec::config::Entry;
use osvm_spec::edit::{self, EditError};
use osvm_spec::{ServerName, containers};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::{environment, images, output};

/// The entry with what its command says of a container in its own keys.
pub(crate) fn lowered(entry: Entry) -> Result<Entry, CliError> {
    let name = entry.id.clone();
    let (entry, unheeded) = containers::lower(entry).map_err(|error| {
        let refused = CliError::usage(error.to_string());
        error.hint().into_iter().fold(refused, CliError::hint)
    })?;
    for flag in unheeded {
        output::warning(format_args!(
            "{name}: {flag} is not heeded: it is for containers, not for VMs"
        ));
    }
    Ok(entry)
}

/// Folders can be lent, files can't.
pub(crate) fn check_folders(entry: &Entry) -> Result<(), CliError> {
    for folder in &entry.folders {
        let path = environment::expand(&folder.host)?;
        if path.is_file() {
            let message = format!("{} is a file, and only folders are lent", path.display());
            let parent = path.parent().unwrap_or(Path::new("/")).display();
            return Err(CliError::usage(message).hint(format!("--mount {parent}:FOLDER:ro")));
        }
    }
    Ok(())
}

/// Brings the image and writes the entry, in this order, so that nothing is registered half. `last` is done while
/// nobody else writes, and nothing is written when it fails.
pub(crate) fn register(
    file: &ConfigFile,
    entry: &Entry,
    last: impl FnOnce() -> Result<(), CliError>,
) -> Result<(), CliError> {
    refuse_taken(file, &entry.id)?;
    images::ensure_entry(entry)?;
    file.edit(|text, name| {
        let text = edit::add(text, name, entry).map_err(CliError::from)?;
        last().map(|()| text)
    })
}

/// Before anything is made for it.
fn refuse_taken(file: &ConfigFile, name: &ServerName) -> Result<(), CliError> {
    match file.read()?.server(name) {
        Some(_) => Err(EditError::Exists(name.clone()).into()),
        None => Ok(()),
    }
}
