//! `osvm image prune`

use super::{open, short, users};
use crate::error::CliError;
use crate::output::{self, size};

/// Remove the images that no server and no VM uses
///
/// Also removes what imports that were given up have left.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let users = users(&images)?;
    let pruned = if args.dry_run { images.unused(&users)? } else { images.prune(&users)? };
    if args.json {
        return output::json(&pruned);
    }
    let act = if args.dry_run { "would remove" } else { "removed" };
    for digest in &pruned.images {
        output::line(format_args!("{act} {}", short(digest)))?;
    }
    output::line(format_args!("{act} {} in all", size(pruned.bytes)))
}
