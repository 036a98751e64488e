//! `osvm image build`

use osvm_spec::ImageRef;

use super::{open, users};
use crate::error::CliError;
use crate::{images, output};

/// Make an image, ahead of the server's first start
///
/// Does nothing when the image is there and what it is made from has not changed. Packages, and what a bundle of type
/// uv needs, are installed in a microVM that reaches their registries and nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm image build ./rootfs
  osvm image build ./saved.tar   # from docker save, or an OCI layout
  osvm image build ./notes.mcpb
  osvm image build ./my-server   # a program, or a folder with a package.json
  osvm image build npm:@modelcontextprotocol/server-everything
  osvm image build 'pypi:mcp-server-git --with mcp<2'")]
pub(crate) struct Args {
    /// A path that begins with '.', '/' or '~', an image of a registry, or a package (npm:NAME, pypi:NAME)
    #[arg(value_name = "REF", value_parser = images::reference)]
    image: ImageRef,
    /// Make a package's or a bundle's image again, with the newest versions that fit
    #[arg(long)]
    anew: bool,
    /// Print the image as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let images = open()?;
    let digest = images::make(&images, &images::absolute(args.image)?, args.anew)?;
    if args.json {
        return output::json(&images.inspect(&digest, &users(&images)?)?);
    }
    output::line(digest)
}
