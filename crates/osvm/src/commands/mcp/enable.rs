//! `osvm mcp enable`

use osvm_spec::{ServerName, edit};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output;

/// Let a disabled server run again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    ConfigFile::open()?.edit(|text, file| edit::set_enabled(text, file, &args.name, true))?;
    output::line(format_args!("enabled {}", args.name))
}
