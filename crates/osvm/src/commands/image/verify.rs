//! `osvm image verify`

use osvm_daemon::images::Images;
use osvm_spec::Digest;

use super::{open, short};
use crate::error::CliError;
use crate::output;

/// Read images whole, and compare them with their digests
///
/// A damaged one is made anew after `osvm image remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Digests, or their first digits [default: all]
    images: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let mut damaged = 0;
    let asked = asked(&images, &args.images)?;
    for digest in &asked {
        match images.verify(digest) {
            Ok(()) => output::line(format_args!("{}  good", short(digest)))?,
            Err(error) => {
                damaged += 1;
                output::line(format_args!("{}  damaged", short(digest)))?;
                output::warning(CliError::from(error).message());
            }
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(CliError::failed(format!("{damaged} of {} images are damaged", asked.len()))
            .hint("osvm image remove DIGEST")),
    }
}

fn asked(images: &Images, named: &[String]) -> Result<Vec<Digest>, CliError> {
    match named {
        [] => Ok(images.all()?),
        named => named.iter().map(|text| Ok(images.find(text)?)).collect(),
    }
}
