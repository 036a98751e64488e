//! `osvm mcp microvm stop`

use osvm_daemon::api::VmStatus;
use osvm_daemon::client::Client;
use osvm_spec::ServerName;

use crate::error::CliError;
use crate::progress::Progress;
use crate::{daemon, output};

/// Stop a microVM, or all of them
///
/// Asks first, forces after a while, and returns when nothing of the VM is left but its logs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the VM's server
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<ServerName>,
    /// Stop every VM
    #[arg(long)]
    all: bool,
    /// Print a JSON array of the VMs that were stopped
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let stopped = daemon::with(async |client| stop(&client, args.name.as_ref()).await)?;
    if args.json {
        return output::json(&stopped);
    }
    if stopped.is_empty() {
        return output::line("no VM was running");
    }
    stopped.iter().try_for_each(|vm| output::line(format_args!("stopped {} ({})", vm.name, vm.id)))
}

async fn stop(client: &Client, name: Option<&ServerName>) -> Result<Vec<VmStatus>, CliError> {
    match name {
        Some(name) => {
            let _progress = Progress::start(format!("stopping {name}"));
            Ok(vec![client.stop(name).await?])
        }
        None => {
            let _progress = Progress::start("stopping every VM");
            Ok(client.stop_all().await?)
        }
    }
}
