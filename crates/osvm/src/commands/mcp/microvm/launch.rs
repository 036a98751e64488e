//! `osvm mcp microvm launch`

use osvm_daemon::api::{LaunchRequest, VmStatus};
use osvm_spec::ServerName;

use super::super::vm_options::LaunchOptions;
use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::progress::Progress;
use crate::{daemon, images, output, secrets};

/// Launch a server's microVM and wait until the server has answered MCP
///
/// A name that is not registered gets a VM of its own. The VM stays until it is stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp microvm launch my-server --memory 512 --vcpus 2
  osvm mcp microvm launch scratch --image ./rootfs --command '/bin/server --stdio'")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    #[command(flatten)]
    options: LaunchOptions,
    /// Print the VM as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let overrides = args.options.overrides()?;
    let secrets = secrets::of(&args.name, &overrides.secrets)?;
    images::ensure(&args.name, &overrides)?;
    let request = LaunchRequest { name: args.name, overrides, secrets, record: false };
    let vm = daemon::with(async |client| {
        let progress = Progress::start(format!("launching {}", request.name));
        let say = |state: &str, _: Option<&str>| {
            progress.say(format!("launching {}: {state}", request.name));
        };
        Ok(client.launch(&request, say).await?)
    })?;
    if vm.demo {
        warn_of_demo(&vm.name)?;
    }
    match args.json {
        true => output::json(&vm),
        false => report(&vm),
    }
}

/// Nobody should take the demo for the server they meant.
pub(in super::super) fn warn_of_demo(name: &ServerName) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    let meant = config.nearest(name).filter(|_| config.server(name).is_none());
    let question = meant.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    output::warning(format_args!("{name} runs the built-in demo server{question}"));
    Ok(())
}

fn report(vm: &VmStatus) -> Result<(), CliError> {
    output::line(summary(vm))?;
    output::hint(format_args!("osvm mcp microvm stop {}", vm.name));
    Ok(())
}

fn summary(vm: &VmStatus) -> String {
    let VmStatus { name, id, vmm, accelerator, memory_mib, vcpus, timings, .. } = vm;
    let plural = if *vcpus == 1 { "" } else { "s" };
    let cloned = if vm.cloned { ", cloned" } else { "" };
    let ready = timings.ready_ms.map(|ms| format!(", first MCP reply after {ms} ms"));
    format!(
        "{name} is ready: VM {id}, {vmm} ({accelerator}), {memory_mib} MiB, {vcpus} vcpu{plural}{cloned}{}",
        ready.unwrap_or_default()
    )
}
