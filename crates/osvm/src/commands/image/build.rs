//! `osvm image build`

use std::path::PathBuf;

use osvm_daemon::images::Step;

use super::{open, users};
use crate::environment;
use crate::error::CliError;
use crate::output::{self, size};
use crate::progress::Progress;

/// Make the image of a folder or an archive, ahead of the server's first start
///
/// Does nothing when the image is there and what it is made from has not changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm image build ./rootfs
  osvm image build ./saved.tar   # from docker save, or an OCI layout")]
pub(crate) struct Args {
    /// A folder, a cpio or tar archive, or a container image on disk
    path: PathBuf,
    /// Print the image as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let path = environment::absolute(&args.path)?;
    let digest = {
        let what = format!("building the image of {}", path.display());
        let progress = Progress::start(what.clone());
        images.build(&path, |step| progress.say(format!("{what}: {}", text(step))))?
    };
    if args.json {
        return output::json(&images.inspect(&digest, &users(&images)?)?);
    }
    output::line(digest)
}

fn text(step: Step) -> String {
    match step {
        Step::Waiting => "waiting for another build of it".to_owned(),
        Step::Pulling { done, total } => format!("pulled {} of {}", size(done), size(total)),
        Step::Unpacking { done, total: Some(total) } => {
            format!("unpacked {} of {}", size(done), size(total))
        }
        Step::Unpacking { done, total: None } => format!("unpacked {}", size(done)),
        Step::Building => "writing the disk".to_owned(),
    }
}
