//! `osvm setup`

use osvm_daemon::setup::{self, Report};

use crate::error::CliError;
use crate::progress::Progress;
use crate::table::{Side::Left, Table};
use crate::{environment, output};

/// Find or bring what microVMs need: a VMM, a guest kernel, the base image
///
/// Leaves kernel and base image under OSVM_HOME. May be repeated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let report = bring()?;
    if args.json {
        return output::json(&report);
    }
    output::text(&text(&report))?;
    output::hint("osvm mcp microvm test");
    Ok(())
}

fn bring() -> Result<Report, CliError> {
    let progress = Progress::start("looking around");
    let mut say = |step: &str| progress.say(step);
    Ok(setup::run(&environment::home()?, &environment::host(), &mut say)?)
}

fn text(report: &Report) -> String {
    let (vmm, kernel) = (&report.vmm, &report.kernel);
    let mut table = Table::new(&[("PART", Left), ("WHAT", Left), ("WHERE", Left)]);
    let mut row = |part: &str, what: String, path: &std::path::Path| {
        table.row(vec![part.to_owned(), what, path.display().to_string()]);
    };
    row("VMM", format!("with {}", vmm.accelerator), &vmm.program);
    row("kernel", format!("{} ({})", kernel.version, kernel.flavour), &kernel.path);
    row("base image", "demo server".to_owned(), &report.rootfs);
    format!("{table}\n{}\n", output::safe(&vmm.reason))
}
