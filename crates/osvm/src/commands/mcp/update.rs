//! `osvm mcp update`

use osvm_daemon::images::Images;
use osvm_spec::ServerName;

use super::accept::locked;
use super::remove::warn_if_running;
use crate::error::CliError;
use crate::{acceptance, environment, images};

/// Bring a server's newest image, show what has changed, and ask
///
/// Packages are installed anew, images of registries pulled, others made again. Until what has changed is accepted,
/// the server runs from the image that was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Accept what has changed without being asked
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let (server, image) = locked(&args.name)?;
    let images = Images::open(&environment::home()?)?;
    let digest = images::make(&images, &image, true)?;
    acceptance::review("update", &server, &digest, args.yes)?;
    warn_if_running(&args.name)
}
