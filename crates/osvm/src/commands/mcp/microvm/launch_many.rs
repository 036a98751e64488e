//! `osvm mcp microvm launch-many`

mod launched;
mod live;
mod summary;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use osvm_daemon::api::{ApiError, ErrorKind, LaunchRequest, Timings, VmStatus};
use osvm_daemon::client::Client;
use osvm_spec::ServerName;
use tokio::task::JoinSet;

use super::super::vm_options::LaunchOptions;
use crate::config_file::ConfigFile;
use crate::error::{CliError, Kind};
use crate::progress::Progress;
use crate::{daemon, images, output, secrets};
use launched::Launched;
use live::{Counts, Live};
use summary::{Outcome, Summary, Took};

/// Launch many microVMs and measure how long they take, and what memory
///
/// They are named many-1, many-2 and so on, but for names of registered servers, and stay until they are
/// stopped. As many start at a time as the machine can carry; one that the host's memory can't hold is refused. Fails
/// unless every one became ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp microvm launch-many 100 --memory 128
  osvm mcp microvm launch-many 8 --stop --json")]
pub(crate) struct Args {
    /// How many
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    count: u16,
    #[command(flatten)]
    options: LaunchOptions,
    /// Stop them once they have been measured
    #[arg(long)]
    stop: bool,
    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let overrides = args.options.overrides()?;
    let secrets = secrets::gather(&overrides.secrets)?;
    let config = ConfigFile::open()?.current()?;
    // A server of that name is another one, with grants of its own.
    let mut names = (1..).map(name).filter(|name| config.server(name).is_none()).peekable();
    let name = names.peek().expect("there is no end of names").clone();
    images::ensure(&name, &overrides)?;
    let request = LaunchRequest { name, overrides, secrets, record: false };
    let (summary, stopped) = daemon::run(launch(args.count.into(), names, &request, args.stop))?;
    match args.json {
        true => output::json(&summary)?,
        false => output::text(&summary.to_string())?,
    }
    stopped.and_then(|()| summary.verdict())
}

/// What was measured, and whether all could be stopped that were to be.
async fn launch(
    count: usize,
    names: impl Iterator<Item = ServerName>,
    like: &LaunchRequest,
    stop: bool,
) -> Result<(Summary, Result<(), CliError>), CliError> {
    let client = daemon::connect().await?;
    let names = free_names(&client, names, count).await?;
    let launched = Launched::default();
    let summary = daemon::unless_interrupted(launch_all(&client, &names, like, &launched)).await;
    let interrupted = summary.as_ref().is_err_and(|error| error.kind == Kind::Interrupted);
    let stopped = match stop || interrupted {
        true => daemon::unless_interrupted(stop_all(&client, &launched)).await,
        false => Ok(()),
    };
    Ok((summary?, stopped))
}

/// The first of these names that no VM has.
async fn free_names(
    client: &Client,
    names: impl Iterator<Item = ServerName>,
    count: usize,
) -> Result<Vec<ServerName>, CliError> {
    let taken: BTreeSet<_> = client.vms().await?.into_iter().map(|vm| vm.name).collect();
    Ok(names.filter(|name| !taken.contains(name)).take(count).collect())
}

fn name(number: u64) -> ServerName {
    format!("many-{number}").parse().expect("a word and a number are a name")
}

/// Requests under way at a time: more than the daemon starts at once, fewer than it has descriptors.
const IN_FLIGHT: usize = 64;

/// Dropping this cancels the launches that are not ready yet.
async fn launch_all(
    client: &Client,
    names: &[ServerName],
    like: &LaunchRequest,
    launched: &Launched,
) -> Result<Summary, CliError> {
    let start = Instant::now();
    // Dropped with this, and not with the last of the launches.
    let live = Arc::new(Live::of(names.len()));
    let mut outcomes = Vec::with_capacity(names.len());
    let launch = |name: &ServerName| {
        let request = LaunchRequest { name: name.clone(), ..like.clone() };
        launch_one(client.clone(), request, Arc::downgrade(&live), launched.clone())
    };
    each(names, launch, |outcome| outcomes.push(outcome)).await?;
    let summary = Summary::of(outcomes, start.elapsed());
    Ok(summary.with_memory(&client.vms().await?))
}

/// Some work for each of them, [`IN_FLIGHT`] at a time, and what comes of it in the order it comes.
async fn each<T, F>(
    all: &[T],
    work: impl Fn(&T) -> F,
    mut done: impl FnMut(F::Output),
) -> Result<(), CliError>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut waiting = all.iter().map(work);
    let mut running: JoinSet<_> = waiting.by_ref().take(IN_FLIGHT).collect();
    while let Some(result) = running.join_next().await {
        done(result.map_err(|error| CliError::failed(format!("a request broke: {error}")))?);
        waiting.next().map(|next| running.spawn(next));
    }
    Ok(())
}

async fn launch_one(
    client: Client,
    request: LaunchRequest,
    live: Weak<Live>,
    launched: Launched,
) -> Outcome {
    let asked = Instant::now();
    let show =
        |change: &dyn Fn(&mut Counts)| live.upgrade().iter().for_each(|live| live.change(change));
    let mut booting = 0;
    let on_state = |state: &str, id: Option<&str>| {
        id.iter().for_each(|id| launched.note(&request.name, id));
        if state == "booting" {
            booting = 1;
            show(&|counts| counts.booting += 1);
        }
    };
    let result = client.launch(&request, on_state).await;
    result.iter().for_each(|vm| launched.note(&vm.name, &vm.id));
    show(&|counts| {
        counts.booting -= booting;
        match result {
            Ok(_) => counts.ready += 1,
            Err(_) => counts.failed += 1,
        }
    });
    let took =
        |vm: VmStatus| Took { whole: asked.elapsed(), boot: boot(vm.timings), is_clone: vm.cloned };
    Outcome { name: request.name, result: result.map(took).map_err(CliError::from) }
}

/// From the moment everything was there for the VM to start.
fn boot(timings: Timings) -> Option<Duration> {
    timings.ready_ms?.checked_sub(timings.prepared_ms?).map(Duration::from_millis)
}

/// One of which the daemon has said nothing has either not begun, or ends as its client hangs up.
async fn stop_all(client: &Client, launched: &Launched) -> Result<(), CliError> {
    let launched = launched.all();
    let _progress = Progress::start(format!("stopping {}", launched.len()));
    let stop = |(name, id): &(ServerName, String)| {
        let (client, name, id) = (client.clone(), name.clone(), id.clone());
        async move { client.stop_only(&name, &id).await }
    };
    let mut refused = None;
    let note = |result: Result<VmStatus, ApiError>| match result {
        Err(error) if error.kind != ErrorKind::NoSuch => refused = Some(error),
        _ => {}
    };
    each(&launched, stop, note).await?;
    refused.map_or(Ok(()), |error| Err(error.into()))
}
