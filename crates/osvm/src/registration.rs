//! A server on its way into the configuration: what `add` and `import` have in common.

use std::cell::Cell;

use osvm_daemon::client::Client;
use osvm_spec::config::Entry;
use osvm_spec::edit::{self, EditError};
use osvm_spec::{ServerName, containers};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::secret_files::KeptSecret;
use crate::{acceptance, daemon, environment, images, output, secret_files};

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

/// Brings the image, writes the secrets and the entry, in this order, so that nothing is registered half. Then the
/// server is noted as it is accepted.
pub(crate) fn register(
    file: &ConfigFile,
    entry: &Entry,
    secrets: &[KeptSecret],
) -> Result<(), CliError> {
    refuse_taken(file, &entry.id)?;
    images::ensure_entry(entry)?;
    let is_written = Cell::new(false);
    let edited = file.edit(|text, name| {
        let text = edit::add(text, name, entry).map_err(CliError::from)?;
        secret_files::write(&entry.id, secrets)?;
        is_written.set(true);
        Ok::<_, CliError>(text)
    });
    if edited.is_err() && is_written.get() {
        // The first error is the one to tell.
        let _ = secret_files::remove(&entry.id);
    }
    edited?;
    acceptance::begin(entry)
}

/// Before anything is made for it.
pub(crate) fn refuse_taken(file: &ConfigFile, name: &ServerName) -> Result<(), CliError> {
    if file.current()?.server(name).is_some() {
        return Err(EditError::Exists(name.clone()).into());
    }
    match is_running(name)? {
        true => Err(CliError::failed(format!(
            "a VM that is called {name} is running: it would be taken for the new server's"
        ))
        .hint(format!("osvm mcp microvm stop {name}"))),
        false => Ok(()),
    }
}

/// Whether a VM has the name, be it the demo server's under a name that nobody had, or of a server that was removed.
pub(crate) fn is_running(name: &ServerName) -> Result<bool, CliError> {
    let home = environment::home()?;
    daemon::run(async {
        let Some(client) = Client::find(&home).await else { return Ok(false) };
        let vm = client.vm(name).await;
        Ok(vm.is_ok_and(|vm| !["stopped", "failed"].contains(&vm.state.as_str())))
    })
}
