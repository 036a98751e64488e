//! `osvm mcp call`

pub(super) mod arguments;

use std::time::Duration;

use osvm_daemon::api::{CallAnswer, CallRequest};
use osvm_spec::ServerName;

use super::answer;
use crate::error::{CliError, Kind};
use crate::progress::Progress;
use crate::{daemon, environment, images, output, secrets};

/// Call a tool
///
/// Starts the server's VM when none runs. Prints the text of the answer; exits with 5 when the tool
/// reports an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp call my-server my-tool '{\"param\":\"value\"}'
  osvm mcp call files read @arguments.json
  generate-arguments | osvm mcp call files read - --json")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Name of the tool
    tool: String,
    /// A JSON object; '-' reads it from standard input, '@FILE' from a file [default: {}]
    #[arg(value_name = "JSON|-|@FILE")]
    arguments: Option<String>,
    /// The same as a flag
    #[arg(long, value_name = "JSON|-|@FILE", conflicts_with = "arguments")]
    args: Option<String>,
    /// Seconds until the call is given up [default: the configuration's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: Option<u64>,
    /// Confirm it, where the configuration says that calls of the tool are to be confirmed
    #[arg(long)]
    yes: bool,
    /// Print the result as the server wrote it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let written = args.arguments.or(args.args);
    let request = CallRequest {
        arguments: arguments::read(written.as_deref().unwrap_or("{}"))?,
        tool: args.tool,
        timeout_seconds: args.timeout,
        confirmed: args.yes,
        overrides: environment::overrides()?,
        secrets: secrets::of(&args.name, &[])?,
    };
    images::ensure(&args.name, &request.overrides)?;
    let answer = call(&args.name, &request)?;
    match args.json {
        true => output::line(answer.result.get())?,
        false => output::text(&answer::text(&answer.result))?,
    }
    match answer.is_error {
        true => Err(reported(&args.name, &request.tool)),
        false => Ok(()),
    }
}

/// Calls that take longer than this say what they wait for.
const PATIENCE: Duration = Duration::from_millis(500);

fn call(name: &ServerName, request: &CallRequest) -> Result<CallAnswer, CliError> {
    daemon::with(async |client| {
        let answer = client.call(name, request);
        tokio::pin!(answer);
        if let Ok(early) = tokio::time::timeout(PATIENCE, &mut answer).await {
            return Ok(early?);
        }
        let _progress = Progress::start(format!("waiting for {name}"));
        Ok(answer.await?)
    })
}

fn reported(name: &ServerName, tool: &str) -> CliError {
    CliError::new(Kind::ToolError, format!("tool {tool} of {name} reported an error"))
        .hint(format!("osvm mcp microvm logs {name}"))
}
