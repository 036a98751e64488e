//! `osvm mcp audit`

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime};

use osvm_daemon::audit::{self, Fault, Outcome, Record, Verified, Wanted};
use osvm_spec::ServerName;
use serde::Serialize;

use crate::error::CliError;
use crate::table::{Side, Table};
use crate::{environment, output};

/// Show which tools were called, by whom, and what became of it
///
/// Reads $OSVM_HOME/logs/audit.jsonl, to which the daemon adds a line for each call, refused ones too. Each line has
/// the digest of the one before it. HOSTS are those that the call's VM reached, or was refused, while it ran.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp audit --last 20
  osvm mcp audit --server files --tool write_file --since 1h
  osvm mcp audit --verify")]
pub(crate) struct Args {
    /// Calls of this server
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// Calls of this tool
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Calls of which this became: ok, input_required, tool_error, refused, failed, timed_out, cancelled
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Calls that ended at most this long ago: 90s, 30m, 1h, 7days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// The last calls, at most so many
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
    /// Check that each line follows from the one before; exits with 1 if one was changed, removed or inserted
    #[arg(long, conflicts_with_all = ["server", "tool", "outcome", "since", "last"])]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let path = environment::home()?.audit();
    if args.verify {
        return verify(&path, args.json);
    }
    let Args { server, tool, outcome, since, last, .. } = args;
    let wanted = Wanted { server, tool, outcome, since, last };
    let found = audit::read(&path, &wanted, SystemTime::now()).map_err(|e| unread(&path, &e))?;
    if args.json {
        #[derive(Serialize)]
        struct Shown<'a> {
            file: &'a Path,
            bytes: u64,
            calls: &'a VecDeque<Record>,
        }
        return output::json(&Shown { file: &path, bytes: found.bytes, calls: &found.calls });
    }
    output::text(&table(&found.calls).to_string())?;
    let size = output::size(found.bytes);
    output::note(&format!(
        "{} calls, of a record of {size} in {}\n",
        found.calls.len(),
        path.display()
    ));
    Ok(())
}

fn table(calls: &VecDeque<Record>) -> Table {
    let mut table = Table::new(&[
        ("ENDED", Side::Left),
        ("BY", Side::Left),
        ("SERVER", Side::Left),
        ("TOOL", Side::Left),
        ("OUTCOME", Side::Left),
        ("MS", Side::Right),
        ("HOSTS", Side::Left),
        ("WHY", Side::Left),
    ]);
    for call in calls {
        let caller = &call.caller;
        let says = [caller.client.as_deref(), caller.version.as_deref()];
        let by = [Some(caller.way.word()), caller.token.as_deref()].into_iter().chain(says);
        table.row(vec![
            call.time.clone(),
            by.flatten().collect::<Vec<_>>().join(" "),
            call.server.to_string(),
            call.tool.clone(),
            call.outcome.word().to_owned(),
            call.ms.to_string(),
            call.egress.as_ref().map(ToString::to_string).unwrap_or_default(),
            call.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn verify(path: &Path, json: bool) -> Result<(), CliError> {
    let verified = match File::open(path) {
        Ok(file) => audit::verify(BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => audit::verify(io::empty()),
        Err(error) => Err(error),
    };
    let Verified { lines, last, faults } = verified.map_err(|error| unread(path, &error))?;
    let told: Vec<_> = faults.iter().map(Fault::to_string).collect();
    if json {
        #[derive(Serialize)]
        struct Shown<'a> {
            file: &'a Path,
            lines: u64,
            last: &'a str,
            faults: &'a [String],
        }
        output::json(&Shown { file: path, lines, last: &last, faults: &told })?;
    }
    if !told.is_empty() {
        let what = told.join("; ");
        return Err(CliError::failed(format!(
            "{} is not as it was written: {what}",
            path.display()
        )));
    }
    match json {
        true => Ok(()),
        false => output::line(format_args!(
            "{lines} lines follow from each other; the last is sha256:{last}"
        )),
    }
}

fn unread(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("can't read {}: {error}", path.display()))
}
