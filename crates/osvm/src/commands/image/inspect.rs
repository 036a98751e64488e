//! `osvm image inspect`

use super::{open, users};
use crate::error::CliError;
use crate::output;

/// Print what is known of an image, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Digest, or its first digits
    image: String,
    /// As without it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let digest = images.find(&args.image)?;
    output::json(&images.inspect(&digest, &users(&images)?)?)
}
