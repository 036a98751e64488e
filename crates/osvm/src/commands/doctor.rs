//! `osvm doctor`

use osvm_daemon::doctor::{self, Finding, Verdict};

use crate::error::{CliError, Kind};
use crate::{daemon, environment, output};

/// Say what this machine has to run microVMs with, and what is missing
///
/// Changes nothing. Exits with 4 when servers can't run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let home = environment::home()?;
    let findings = daemon::run(async { Ok(doctor::examine(&home, &environment::host()).await) })?;
    match args.json {
        true => output::json(&findings)?,
        false => findings.iter().try_for_each(|finding| output::text(&text(finding)))?,
    }
    match findings.iter().find(|finding| finding.verdict == Verdict::Bad) {
        None => Ok(()),
        Some(bad) => Err(unfit(bad)),
    }
}

fn unfit(bad: &Finding) -> CliError {
    let error = CliError::new(Kind::Unavailable, format!("servers can't run: {}", bad.found));
    bad.hint.iter().fold(error, CliError::hint)
}

fn text(finding: &Finding) -> String {
    let terminal = output::is_terminal();
    let verdict = match finding.verdict {
        Verdict::Good => output::paint("good", output::GREEN, terminal),
        Verdict::Fair => output::paint("fair", output::YELLOW, terminal),
        Verdict::Bad => output::paint("bad ", output::RED, terminal),
    };
    let mut text = format!("{verdict}  {}: {}\n", finding.what, output::safe(&finding.found));
    if let Some(hint) = &finding.hint {
        text += &format!("      hint: {hint}\n");
    }
    text
}
