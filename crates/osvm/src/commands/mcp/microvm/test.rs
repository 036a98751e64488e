//! `osvm mcp microvm test`

mod checks;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use osvm_daemon::api::{CallAnswer, CallRequest, LaunchRequest, VmStatus};
use osvm_daemon::client::Client;
use osvm_spec::{Overrides, ServerName};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::answer;
use crate::error::CliError;
use crate::progress::Progress;
use crate::{daemon, environment, output};
use checks::{Check, Guest, Host, Reach};

/// Launch the demo server and prove that it is isolated
///
/// Each check shows its evidence. Fails when any check fails. The VM is stopped afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    vm: VmStatus,
    checks: Vec<Check>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let report = daemon::run(test())?;
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

/// Whatever happens in between, the VM is stopped.
async fn test() -> Result<Report, CliError> {
    let client = daemon::connect().await?;
    let secret = random()?;
    let request = request(&secret)?;
    let launched = daemon::unless_interrupted(launch(&client, &request)).await?;
    let examined = daemon::unless_interrupted(examine(&client, &request.name, &secret)).await;
    let stopped = client.stop(&request.name).await;
    let report = Report { vm: launched, checks: examined? };
    stopped?;
    Ok(report)
}

/// A VM of its own with the demo server, and a secret in that server's environment.
fn request(secret: &str) -> Result<LaunchRequest, CliError> {
    let own = Overrides {
        image: Some(environment::home()?.default_rootfs()),
        env: BTreeMap::from([(VARIABLE.to_owned(), secret.to_owned())]),
        ..Overrides::default()
    };
    let name: ServerName =
        format!("isolation-test-{}", std::process::id()).parse().expect("a word and a number");
    Ok(LaunchRequest { name, overrides: own.or(environment::overrides()?) })
}

const VARIABLE: &str = "OSVM_TEST_SECRET";

async fn launch(client: &Client, request: &LaunchRequest) -> Result<VmStatus, CliError> {
    let progress = Progress::start("launching the demo server");
    let say = |state: &str| progress.say(format!("launching the demo server: {state}"));
    Ok(client.launch(request, say).await?)
}

async fn examine(client: &Client, name: &ServerName, secret: &str) -> Result<Vec<Check>, CliError> {
    let guest = Guest::read(&call(client, name, "system_info", json!({})).await?.result)?;
    let host = Host::read(Path::new("/proc"))?;
    let reach = Reach {
        environment: text_of(&call(client, name, "env", json!({ "name": VARIABLE })).await?),
        host_file: read_host_file(client, name, secret).await?,
        written_on_host: write_in_guest(client, name, secret).await?,
    };
    Ok(checks::all(&guest, &host, &reach, secret))
}

/// What the guest reads at the path of a file that the host has just made.
async fn read_host_file(
    client: &Client,
    name: &ServerName,
    secret: &str,
) -> Result<Option<String>, CliError> {
    let file = tempfile::NamedTempFile::new().map_err(|error| unwritable(&error))?;
    fs::write(file.path(), secret).map_err(|error| unwritable(&error))?;
    let answer = call(client, name, "read_file", json!({ "path": file.path() })).await?;
    Ok(Some(text_of(&answer)).filter(|_| !answer.is_error))
}

/// Whether a file that the guest wrote has appeared on the host.
async fn write_in_guest(
    client: &Client,
    name: &ServerName,
    secret: &str,
) -> Result<bool, CliError> {
    let path = Path::new("/tmp").join(format!("osvm-test-{secret}"));
    let arguments = json!({ "path": path, "content": secret });
    let answer = call(client, name, "write_file", arguments).await?;
    match answer.is_error {
        true => Err(CliError::failed(format!("the guest can't write: {}", text_of(&answer)))),
        false => Ok(path.exists()),
    }
}

async fn call(
    client: &Client,
    name: &ServerName,
    tool: &str,
    arguments: serde_json::Value,
) -> Result<CallAnswer, CliError> {
    let arguments = RawValue::from_string(arguments.to_string()).expect("a value is JSON");
    let overrides = Overrides::default();
    let request =
        CallRequest { tool: tool.to_owned(), arguments, timeout_seconds: None, overrides };
    Ok(client.call(name, &request).await?)
}

fn text_of(answer: &CallAnswer) -> String {
    answer::text(&answer.result).trim_end().to_owned()
}

/// A word that nobody could have known.
fn random() -> Result<String, CliError> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid");
    let uuid =
        uuid.map_err(|error| CliError::failed(format!("can't read a random id: {error}")))?;
    Ok(uuid.trim().to_owned())
}

fn unwritable(error: &std::io::Error) -> CliError {
    CliError::failed(format!("can't write a file for the guest to look for: {error}"))
}

fn text(report: &Report) -> String {
    let VmStatus { vmm, accelerator, .. } = &report.vm;
    let mut text = format!("demo server in a microVM: {vmm} ({accelerator})\n");
    for Check { name, passed, evidence } in &report.checks {
        let terminal = output::is_terminal();
        let verdict = match passed {
            true => output::paint("pass", output::GREEN, terminal),
            false => output::paint("FAIL", output::RED, terminal),
        };
        text += &format!("{verdict}  {name}: {}\n", output::safe(evidence));
    }
    text
}
