//! `osvm image list`

use osvm_daemon::images::ImageInfo;

use super::{open, short, users};
use crate::error::CliError;
use crate::output::{self, size};
use crate::table::Side::{Left, Right};
use crate::table::Table;

/// Show the images, the largest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let images = open()?;
    let list = images.list(&users(&images)?)?;
    match args.json {
        true => output::json(&list),
        false => output::text(&output::safe(&table(&list))),
    }
}

fn table(images: &[ImageInfo]) -> String {
    if images.is_empty() {
        return "no image is kept; the first start of a server makes one\n".to_owned();
    }
    let mut table = Table::new(&[
        ("DIGEST", Left),
        ("KIND", Left),
        ("SIZE", Right),
        ("USED BY", Left),
        ("ORIGIN", Left),
    ]);
    for image in images {
        table.row(vec![
            short(&image.digest).to_owned(),
            image.kind.to_owned(),
            size(image.size_bytes),
            image.used_by.join(", "),
            image.origin.clone(),
        ]);
    }
    table.to_string()
}
