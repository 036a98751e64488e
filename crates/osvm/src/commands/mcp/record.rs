//! `osvm mcp record`

mod text;

use std::time::Duration;

use osvm_daemon::api::{CallRequest, LaunchRequest, ListRequest, Listing, VmStatus};
use osvm_daemon::client::{Client, Recording};
use osvm_daemon::policy::Policy;
use osvm_spec::{Overrides, Secrets, ServerName};
use serde_json::value::RawValue;

use super::call::arguments;
use super::microvm::launch::warn_of_demo;
use super::vm_options::LaunchOptions;
use crate::error::CliError;
use crate::progress::Progress;
use crate::{daemon, images, output, secrets};

pub(super) use text::text;

/// Run a server, let it try, and print the least policy that would have covered what it did
///
/// The server runs in a VM of its own with the grants it has; what it tries beyond them is refused as ever, and noted:
/// hosts, folders, and variables that it speaks of. A server that is refused its first host may try more once that
/// is granted, so record again with what was printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp record my-server
  osvm mcp record my-server --call search '{\"query\":\"x\"}' --seconds 10
  osvm mcp record my-server --allow api.example.com --json --seconds 30
  osvm mcp record scratch --image ./rootfs -- /bin/server /data")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    #[command(flatten)]
    options: LaunchOptions,
    /// Tool to call, and its arguments: a JSON object, '-' or '@FILE'; may be repeated
    #[arg(long, num_args = 2, value_names = ["TOOL", "JSON"])]
    call: Vec<String>,
    /// Seconds until it ends, after the calls [default: when it is interrupted]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86400))]
    seconds: Option<u64>,
    /// Print the policy as JSON
    #[arg(long)]
    json: bool,
    /// Command of the server, word by word
    #[arg(last = true, value_name = "ARGV", conflicts_with = "command")]
    argv: Vec<String>,
}

/// One tool call.
struct Call {
    tool: String,
    arguments: Box<RawValue>,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let calls = calls(&args.call)?;
    let mut overrides = args.options.overrides()?;
    if !args.argv.is_empty() {
        overrides.command = Some(args.argv);
    }
    let secrets = secrets::of(&args.name, &overrides.secrets)?;
    images::ensure(&args.name, &overrides)?;
    let request = LaunchRequest { name: args.name, overrides, secrets, record: true };
    let seconds = args.seconds.map(Duration::from_secs);
    let (policy, failed) = daemon::run(record(&request, &calls, seconds))?;
    match args.json {
        true => output::json(&policy)?,
        false => output::text(&text(&request.name, &policy))?,
    }
    failed.map_or(Ok(()), Err)
}

fn calls(words: &[String]) -> Result<Vec<Call>, CliError> {
    let call =
        |pair: &[String]| Ok(Call { tool: pair[0].clone(), arguments: arguments::read(&pair[1])? });
    words.chunks_exact(2).map(call).collect()
}

/// The policy, and why the server did not start, if so: what it tried before that is in the policy.
async fn record(
    request: &LaunchRequest,
    calls: &[Call],
    seconds: Option<Duration>,
) -> Result<(Policy, Option<CliError>), CliError> {
    let client = daemon::connect().await?;
    let mut recording = daemon::unless_interrupted(launch(&client, request)).await?;
    let failed = match recording.launched.clone() {
        Ok(vm) => {
            if vm.demo {
                warn_of_demo(&request.name)?;
            }
            tokio::select! {
                () = exercise(&client, &vm, calls, seconds) => {}
                () = daemon::interrupted() => {}
                () = daemon::terminated() => {}
                ended = recording.ended() => ended?,
            }
            None
        }
        Err(error) => Some(error.into()),
    };
    let _progress = Progress::start("stopping");
    Ok((recording.finish().await?, failed))
}

async fn launch(client: &Client, request: &LaunchRequest) -> Result<Recording, CliError> {
    let name = &request.name;
    let progress = Progress::start(format!("launching {name}"));
    let say = |state: &str| progress.say(format!("launching {name}: {state}"));
    Ok(client.record(request, say).await?)
}

/// Has the server do something, and then waits. What fails is told and is no failure: it is recorded.
async fn exercise(client: &Client, vm: &VmStatus, calls: &[Call], seconds: Option<Duration>) {
    let (overrides, secrets) = (Overrides::default(), Secrets::default());
    let list = ListRequest { what: Listing::Tools, overrides, secrets };
    if let Err(error) = client.list(&vm.name, &list).await {
        output::warning(format_args!("its tools could not be listed: {}", error.message));
    }
    for call in calls {
        output::note(&output::safe(&format!(
            "{}: {}\n",
            call.tool,
            outcome(client, vm, call).await
        )));
    }
    match seconds {
        Some(seconds) => tokio::time::sleep(seconds).await,
        None => {
            output::note("recording; Ctrl-C ends it\n");
            std::future::pending::<()>().await;
        }
    }
}

async fn outcome(client: &Client, vm: &VmStatus, call: &Call) -> String {
    let request = CallRequest {
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        timeout_seconds: None,
        confirmed: false,
        overrides: Overrides::default(),
        secrets: Secrets::default(),
    };
    match client.call(&vm.name, &request).await {
        Ok(answer) if answer.is_error => "it reports an error".to_owned(),
        Ok(_) => "answered".to_owned(),
        Err(error) => error.message,
    }
}
