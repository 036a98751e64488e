//! `osvm mcp gateway-token remove`

use osvm_spec::config::TokenName;
use osvm_spec::edit;

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output;

/// Take a token back
///
/// A gateway that runs refuses it, and its sessions, from then on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the token
    name: TokenName,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    ConfigFile::open()?.edit(|text, file| edit::remove_token(text, file, &args.name))?;
    output::line(format_args!("removed {}", args.name))
}
