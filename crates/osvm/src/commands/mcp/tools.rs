//! `osvm mcp tools`

use osvm_daemon::api::Listing;
use osvm_spec::ServerName;

use super::items;
use crate::error::CliError;

/// List a server's tools
///
/// Starts the server's VM when none runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Print a JSON array of the tools as the server wrote them, schemas included
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    items::show(&args.name, Listing::Tools, "TOOL", args.json)
}
