//! `osvm image pull`

use osvm_spec::{ImageRef, Reference};

use super::{open, users};
use crate::error::CliError;
use crate::{images, output};

/// Bring an image from a registry
///
/// Asks the registry what the reference means now; what is here already is not brought again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm image pull docker.io/mcp/time
  osvm image pull ghcr.io/owner/name@sha256:0123...")]
pub(crate) struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    image: Reference,
    /// Print the image as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let images = open()?;
    let digest = images::make(&images, &ImageRef::Registry(args.image), false)?;
    if args.json {
        return output::json(&images.inspect(&digest, &users(&images)?)?);
    }
    output::line(digest)
}
