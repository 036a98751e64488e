//! `osvm mcp microvm test`

mod agent;
mod check;
mod floods;
mod host;
mod isolation;
mod limits;
mod reach;
mod stage;

use std::collections::BTreeMap;

use osvm_daemon::api::VmStatus;
use serde::Serialize;

use crate::error::CliError;
use crate::{daemon, output};
use check::Check;
use stage::Stage;

/// Launch servers that try to get out of their microVMs, and prove that they don't
///
/// A demo server describes what it sees. Hostile servers, root in their VMs, then try everything else: files,
/// sockets and addresses of the host, more memory and processor time than they were given, floods, and lies in
/// the agent's place. Each attempt is a check with its evidence. Fails when anything got through, and when an
/// attempt could not be made. The VMs are stopped afterwards. Takes about a minute where processors are emulated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make the attempts that take minutes, too
    #[arg(long)]
    thorough: bool,
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    /// The VM of the demo server.
    vm: VmStatus,
    checks: Vec<Check>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let report = daemon::run(test(args.thorough))?;
    match args.json {
        true => output::json(&report)?,
        false => output::text(&text(&report))?,
    }
    let failed = report.checks.iter().filter(|check| !check.passed).count();
    match failed {
        0 => Ok(()),
        failed => {
            let all = report.checks.len();
            Err(CliError::failed(format!("{failed} of {all} checks failed")).hint("osvm doctor"))
        }
    }
}

/// Whatever happens in between, the VMs are stopped.
async fn test(thorough: bool) -> Result<Report, CliError> {
    let mut stage = Stage::new(daemon::connect().await?)?;
    let examined = daemon::unless_interrupted(examine(&mut stage, thorough)).await;
    let left = stage.clear().await;
    let (vm, mut checks) = examined?;
    checks.push(left?);
    Ok(Report { vm, checks })
}

async fn examine(stage: &mut Stage, thorough: bool) -> Result<(VmStatus, Vec<Check>), CliError> {
    let secret = stage.secret().to_owned();
    let demo = stage.launch_demo(BTreeMap::from([(VARIABLE.to_owned(), secret)])).await?;
    let mut checks = isolation::checks(stage, &demo.name, VARIABLE).await?;
    let hostile = stage.launch_hostile("hostile").await?;
    checks.extend(reach::checks(stage, &demo, &hostile).await);
    checks.extend(limits::checks(stage, &demo, &hostile, thorough).await);
    checks.extend(floods::checks(stage, &demo, &hostile, thorough).await);
    checks.extend(agent::checks(stage, &demo).await);
    Ok((demo, checks))
}

/// Holds the secret in the demo server's environment.
const VARIABLE: &str = "OSVM_TEST_SECRET";

fn text(report: &Report) -> String {
    let VmStatus { vmm, accelerator, .. } = &report.vm;
    let mut text = format!("demo server in a microVM: {vmm} ({accelerator})\n");
    let mut group = "";
    for check in &report.checks {
        if check.group != group {
            group = check.group;
            text += &format!("\n{group}\n");
        }
        text += &line(check);
    }
    text
}

fn line(Check { name, passed, evidence, .. }: &Check) -> String {
    let terminal = output::is_terminal();
    let verdict = match passed {
        true => output::paint("pass", output::GREEN, terminal),
        false => output::paint("FAIL", output::RED, terminal),
    };
    format!("{verdict}  {name}: {}\n", output::safe(&evidence.replace(['\n', '\t'], " ")))
}
