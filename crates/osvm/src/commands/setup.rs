//! `osvm setup`

use osvm_daemon::setup::{self, Downloaded, Report};

use crate::error::CliError;
use crate::progress::Progress;
use crate::table::{Side::Left, Table};
use crate::{environment, output};

/// Find or bring what microVMs need: a VMM, a guest kernel, the base image
///
/// Leaves kernel and base image under OSVM_HOME. May be repeated.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Download this Firecracker release, or the newest that osvm knows, before anything else
    ///
    /// Checks the release against its published SHA-256 sum and installs firecracker and jailer in
    /// OSVM_HOME/bin, where osvm looks before PATH.
    #[arg(long = "firecracker", value_name = "VERSION", num_args = 0..=1)]
    download: Option<Option<String>>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  osvm setup
  osvm setup --firecracker
  osvm setup --firecracker 1.16.1

Environment:
  OSVM_FIRECRACKER_RELEASES  URL to download releases from instead of the project's own";

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let downloaded = args.download.as_ref().map(|version| download(version.as_deref()));
    let downloaded = downloaded.transpose()?;
    if let Some(downloaded) = downloaded.as_ref().filter(|_| !args.json) {
        output::text(&told(downloaded))?;
    }
    let report = Report { downloaded, ..bring()? };
    if args.json {
        return output::json(&report);
    }
    output::text(&text(&report))?;
    if report.downloaded.is_some() && environment::home()?.socket().exists() {
        output::hint("osvm daemon --stop   # one that runs goes on with the VMM it found before");
    }
    output::hint("osvm mcp microvm test");
    Ok(())
}

fn download(version: Option<&str>) -> Result<Downloaded, CliError> {
    let base = environment::releases()?;
    let progress = Progress::start("downloading");
    let mut say = |step: &str| progress.say(step);
    Ok(setup::bring_vmm(&environment::home()?, version, base.as_deref(), &mut say)?)
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

fn told(downloaded: &Downloaded) -> String {
    let Downloaded { version, sha256, programs } = downloaded;
    let programs: String = programs.iter().map(|path| format!("  {}\n", path.display())).collect();
    format!("installed firecracker {version} (SHA-256 {sha256}):\n{programs}\n")
}
