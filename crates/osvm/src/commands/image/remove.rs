//! `osvm image remove`

use super::{open, short};
use crate::error::CliError;
use crate::output;

/// Remove images
///
/// VMs that run from one go on. A server whose image is gone makes it anew when it is started.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Digests, or their first digits
    #[arg(required = true)]
    images: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    for text in &args.images {
        let digest = images.find(text)?;
        images.remove(&digest)?;
        output::line(format_args!("removed {}", short(&digest)))?;
    }
    Ok(())
}
