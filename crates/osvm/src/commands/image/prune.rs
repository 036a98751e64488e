//! `osvm image prune`

use osvm_daemon::images::{Images, Layers};

use super::{open, short, users, users_beside_builds};
use crate::error::CliError;
use crate::output::{self, size};

/// Remove the images that no server and no VM uses
///
/// Also removes what builds and imports that were given up have left.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also remove what images of packages are made from: the next one takes longer
    #[arg(long)]
    layers: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let (with, users) = match args.layers {
        true => (Layers::All, users_beside_builds(&images)?),
        false => (Layers::LeftOver, users(&images)?),
    };
    let prune = if args.dry_run { Images::unused } else { Images::prune };
    let pruned = prune(&images, &users, with)?;
    if args.json {
        return output::json(&pruned);
    }
    let act = if args.dry_run { "would remove" } else { "removed" };
    for digest in &pruned.images {
        output::line(format_args!("{act} {}", short(digest)))?;
    }
    for name in &pruned.layers {
        output::line(format_args!("{act} layer {name}"))?;
    }
    output::line(format_args!("{act} {} in all", size(pruned.bytes)))
}
