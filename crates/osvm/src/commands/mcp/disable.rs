//! `osvm mcp disable`

use osvm_spec::{ServerName, edit};

use super::remove::warn_if_running;
use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output;

/// Keep a server registered and refuse to run it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    ConfigFile::open()?.edit(|text, file| edit::set_enabled(text, file, &args.name, false))?;
    output::line(format_args!("disabled {}", args.name))?;
    warn_if_running(&args.name)
}
