//! `osvm mcp run`

use osvm_daemon::api::{LaunchRequest, RunRequest};
use osvm_daemon::client::Upgraded;
use osvm_spec::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::record;
use crate::config_file::{ConfigFile, no_such};
use crate::error::CliError;
use crate::{daemon, environment, images, output, secrets};

/// Be the server: MCP on standard input and output
///
/// What an MCP client starts as the server's command. Starts the server's VM when none runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in an MCP client's configuration:
  { \"mcpServers\": { \"files\": { \"command\": \"osvm\", \"args\": [\"mcp\", \"run\", \"files\"] } } }")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Run in a VM of its own, note what the server tries beyond its grants, and print the least policy that covers
    /// it on standard error at the end
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if args.record {
        return recorded(&args.name);
    }
    let (overrides, secrets) = (environment::overrides()?, secrets::of(&args.name, &[])?);
    images::ensure(&args.name, &overrides)?;
    daemon::with(async move |client| {
        let request = RunRequest { overrides, secrets, on_behalf: None };
        pump(client.run(&args.name, &request).await?).await
    })
}

/// The same in a VM that is recorded. However the client ends it, the policy is printed.
fn recorded(name: &ServerName) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    if config.server(name).is_none() {
        return Err(no_such(name, config.nearest(name)));
    }
    let (overrides, secrets) = (environment::overrides()?, secrets::of(name, &[])?);
    images::ensure(name, &overrides)?;
    let request = LaunchRequest { name: name.clone(), overrides, secrets, record: true };
    daemon::run(async {
        let client = daemon::connect().await?;
        let recording =
            daemon::unless_interrupted(async { Ok(client.record(&request, |_| {}).await?) });
        let recording = recording.await?;
        let pumped = match &recording.launched {
            Ok(vm) => tokio::select! {
                pumped = async { pump(client.run(&vm.name, &RunRequest::default()).await?).await } => pumped,
                () = daemon::interrupted() => Ok(()),
                () = daemon::terminated() => Ok(()),
            },
            Err(error) => Err(error.clone().into()),
        };
        let policy = recording.finish().await?;
        output::note(&record::text(name, &policy));
        pumped
    })
}

/// Until the server has no more to say. The end of standard input is passed on, and waited behind.
async fn pump(session: Upgraded) -> Result<(), CliError> {
    let (mut from_server, mut to_server) = tokio::io::split(session);
    let input = async {
        // A server that stops listening still has its last words.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to_server).await;
        let _ = to_server.shutdown().await;
        std::future::pending().await
    };
    tokio::select! {
        done = copy_out(&mut from_server) => done,
        never = input => never,
    }
}

/// Each piece is flushed as it comes: a client waits for it.
async fn copy_out(from: &mut (impl AsyncReadExt + Unpin)) -> Result<(), CliError> {
    let mut stdout = tokio::io::stdout();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.map_err(|error| lost(&error))?;
        if count == 0 {
            return Ok(());
        }
        stdout.write_all(&buffer[..count]).await.map_err(output::closed)?;
        stdout.flush().await.map_err(output::closed)?;
    }
}

fn lost(error: &std::io::Error) -> CliError {
    CliError::failed(format!("the connection to the daemon was lost: {error}"))
        .hint("osvm mcp microvm status")
}
