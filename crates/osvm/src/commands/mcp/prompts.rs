//! `osvm mcp prompts`

use osvm_daemon::api::Listing;
use osvm_spec::ServerName;

use super::items;
use crate::error::CliError;

/// List a server's prompts
///
/// Starts the server's VM when none runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Print a JSON array of the prompts as the server wrote them
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    items::show(&args.name, Listing::Prompts, "PROMPT", args.json)
}
