//! `osvm mcp remove`

use osvm_spec::{ServerName, edit};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::{acceptance, output, registration, secret_files};

/// Take a server off the register
///
/// Its images and logs stay. Secrets that import kept for it go.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    ConfigFile::open()?.edit(|text, file| edit::remove(text, file, &args.name))?;
    acceptance::forget(&args.name)?;
    secret_files::remove(&args.name)?;
    output::line(format_args!("removed {}", args.name))?;
    warn_if_running(&args.name)
}

/// Editing the file ends nothing: says so when the server's VM is up.
pub(super) fn warn_if_running(name: &ServerName) -> Result<(), CliError> {
    if registration::is_running(name)? {
        output::warning(format_args!(
            "its VM goes on running; osvm mcp microvm stop {name} ends it"
        ));
    }
    Ok(())
}
