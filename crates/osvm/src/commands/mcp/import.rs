//! `osvm mcp import`

mod folders;
mod outcome;
mod plan;

use osvm_spec::clients::{Found, Listed, Start};
use osvm_spec::{Access, ServerName};
use serde::Serialize;

use crate::client_file::{FoundFile, Source};
use crate::config_file::ConfigFile;
use crate::error::{CliError, Kind};
use crate::{backups, environment, output, registration};
use folders::Lending;
use outcome::{Became, Outcome};
use plan::Plan;

/// Register the servers of an MCP client
///
/// Reads the client's file and registers each server that it starts, as add would: with its image, its environment, and
/// values that look like secrets in files of their own. Folders among its arguments are lent only when that is agreed
/// to. With --rewrite the client then starts osvm in their place; export --restore undoes that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp import claude-desktop --dry-run --rewrite
  osvm mcp import claude-desktop --rewrite
  osvm mcp import cursor github --lend ro
  osvm mcp import ./.mcp.json --json")]
pub(crate) struct Args {
    /// claude-desktop, claude-code, cursor, vscode, windsurf, zed, gemini, or the path of a file like theirs
    source: Source,
    /// Servers, as the client calls them [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Have the client start these servers through osvm
    #[arg(long)]
    rewrite: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Lend the folders among the arguments without asking: ro, rw
    #[arg(long, value_name = "ACCESS")]
    lend: Option<Access>,
    /// Print what became of each server as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    dry_run: bool,
    rewritten: bool,
    servers: &'a [Outcome],
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let lending = Lending::new(args.lend, !args.json && !args.dry_run);
    let found = args.source.find()?;
    let file = found.parse(found.existing()?)?;
    let listed = file.servers(&found.places(&file)).map_err(|error| found.fault(&error))?;
    let chosen = chosen(listed, &args.names, &found)?;
    let import =
        Import { config: ConfigFile::open()?, lending, dry_run: args.dry_run, json: args.json };
    let outcomes = import.all(chosen)?;
    let rewritten = args.rewrite && rewrite(&found, &outcomes, args.dry_run, args.json)?;
    let file = found.path.display().to_string();
    match args.json {
        true => {
            let dry_run = args.dry_run;
            output::json(&Report { file, dry_run, rewritten, servers: &outcomes })?;
        }
        false if outcomes.is_empty() => output::line(format_args!("{file} has no servers"))?,
        false if rewritten && !args.dry_run => {
            output::line(format_args!("rewrote {file}"))?;
            output::hint(format_args!("osvm mcp export --restore {file} undoes that"));
        }
        false => {}
    }
    failures(&outcomes)
}

/// Those that were asked for, all of which must be there.
fn chosen(
    mut listed: Vec<Listed>,
    names: &[String],
    found: &FoundFile,
) -> Result<Vec<Listed>, CliError> {
    let has = |name: &&String| listed.iter().any(|listed| listed.spot.name == **name);
    if let Some(unknown) = names.iter().find(|name| !has(name)) {
        let message = format!("{} has no server {unknown:?}", found.path.display());
        return Err(CliError::new(Kind::NoSuch, message));
    }
    listed.retain(|listed| names.is_empty() || names.contains(&listed.spot.name));
    Ok(listed)
}

fn failures(outcomes: &[Outcome]) -> Result<(), CliError> {
    let failed = outcomes.iter().filter(|outcome| outcome.is_failure()).count();
    match failed {
        0 => Ok(()),
        _ => Err(CliError::failed(format!(
            "{failed} of {} servers were not imported",
            outcomes.len()
        ))),
    }
}

struct Import {
    config: ConfigFile,
    lending: Lending,
    dry_run: bool,
    json: bool,
}

impl Import {
    /// One after the other; what fails stops none but itself.
    fn all(&self, listed: Vec<Listed>) -> Result<Vec<Outcome>, CliError> {
        let mut outcomes = Vec::new();
        for listed in listed {
            let name = ServerName::like(&listed.spot.name);
            let became = self.one(&listed, &name);
            if let Err(CliError { kind: kind @ (Kind::Interrupted | Kind::Closed), .. }) = became {
                return Err(CliError::new(kind, "interrupted"));
            }
            let outcome = Outcome::new(listed.spot, name, became);
            if !self.json {
                output::line(outcome.line(self.dry_run))?;
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn one(&self, listed: &Listed, name: &ServerName) -> Result<Became, CliError> {
        let stdio = match &listed.is {
            Found::Stdio(stdio) => stdio,
            Found::Remote(_) => {
                return Ok(Became::left_out("it is a remote server, and runs nothing here"));
            }
            Found::Settings => {
                return Ok(Became::left_out("it has no command: an extension brings it"));
            }
            Found::Faulty(error) => return Err(CliError::failed(error.to_string())),
        };
        if plan::is_osvm(stdio) {
            return Ok(Became::left_out("osvm runs it already"));
        }
        let mut plan = Plan::of(name, stdio)?;
        let registered = self.config.current()?.server(name).cloned();
        if registered.is_none() || self.lending.is_said() {
            self.lending.lend(&mut plan, stdio.cwd.as_deref())?;
        }
        if let Some(registered) = registered {
            return plan.compare(&registered);
        }
        plan.notes.iter().for_each(|note| output::warning(format_args!("{name}: {note}")));
        if !self.dry_run {
            registration::register(&self.config, &plan.entry, &plan.secrets)?;
        }
        Ok(plan.imported())
    }
}

/// Has the client start osvm in place of the servers that are registered now. Whether anything changes.
fn rewrite(
    found: &FoundFile,
    outcomes: &[Outcome],
    dry_run: bool,
    json: bool,
) -> Result<bool, CliError> {
    let command = environment::own_program()?;
    let mut text = found.existing()?.to_owned();
    let mut spots = Vec::new();
    for outcome in outcomes {
        let Some(kept) = outcome.registered() else { continue };
        let start = Start { command: command.clone(), args: outcome.args() };
        let file = found.parse(&text)?;
        let pointed = file.pointed(outcome.spot(), &start, |variable| kept.contains(variable));
        if let Some(pointed) = pointed.map_err(|error| found.fault(&error))? {
            text = pointed;
            spots.push(outcome.spot().clone());
        }
    }
    if spots.is_empty() {
        return Ok(false);
    }
    if environment::has_own_home() {
        output::warning("OSVM_HOME is set here; the client must be started with it, too");
    }
    match dry_run {
        true if json => {}
        true => found.show_change(Some(&text))?,
        false => drop(backups::replace(found, &text, &spots)?),
    }
    Ok(true)
}
