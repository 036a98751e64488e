//! `osvm mcp microvm suspend`

use osvm_spec::ServerName;

use crate::error::CliError;
use crate::progress::Progress;
use crate::{daemon, output};

/// Suspend a microVM to disk, as it is, until something is wanted of it
///
/// Its memory is written to a private file, and its process ends. The next call has it go on where it was; clients that
/// are connected to it stay so, and notice nothing but a delay. Idle VMs that a call started are suspended by themselves.
/// VMs that were given secrets, or are lent folders, are never suspended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the VM's server
    name: ServerName,
    /// Print the VM as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let vm = daemon::with(async |client| {
        let _progress = Progress::start(format!("suspending {}", args.name));
        Ok(client.suspend(&args.name).await?)
    })?;
    if args.json {
        return output::json(&vm);
    }
    output::line(format_args!("suspended {} ({})", vm.name, vm.id))
}
