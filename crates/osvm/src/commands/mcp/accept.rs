//! `osvm mcp accept`

use osvm_daemon::images::Images;
use osvm_spec::{Digest, ImageRef, Overrides, Server, ServerName};

use super::remove::warn_if_running;
use crate::config_file::{ConfigFile, no_such};
use crate::error::{CliError, Kind};
use crate::{acceptance, environment, images};

/// Accept a server as it is now
///
/// Shows how its image, the packages in it, and its tools differ from what was accepted, and asks. A server that
/// differs is refused until then.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Accept without being asked
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let (server, image) = locked(&args.name)?;
    acceptance::review("accept", &server, &current(&image)?, args.yes)?;
    warn_if_running(&args.name)
}

/// A registered server that is held against what was accepted, and its image.
pub(super) fn locked(name: &ServerName) -> Result<(Server, ImageRef), CliError> {
    let config = ConfigFile::open()?.current()?;
    if config.server(name).is_none() {
        return Err(no_such(name, config.nearest(name)));
    }
    let resolved = environment::resolve(&config, name, &Overrides::default())?;
    let server = resolved.map_err(|refusal| CliError::new(Kind::Refused, refusal.to_string()))?;
    match server.image.clone().filter(|_| server.locked) {
        Some(image) => Ok((server, image)),
        None => {
            let message = format!(
                "server {name} is not locked: it has no image of its own, or locked = false"
            );
            Err(CliError::usage(message).hint(format!("osvm mcp show {name}")))
        }
    }
}

/// What its reference stands for here and now.
fn current(image: &ImageRef) -> Result<Digest, CliError> {
    let images = Images::open(&environment::home()?)?;
    match images.of(image).filter(|_| images::is_brought(image)) {
        Some(digest) => Ok(digest),
        None => images::make(&images, image, false),
    }
}
