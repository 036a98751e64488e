//! `osvm mcp microvm status`

use std::time::Duration;

use osvm_daemon::api::VmStatus;

use crate::error::CliError;
use crate::table::Side::{Left, Right};
use crate::table::Table;
use crate::{daemon, output};

/// Show the microVMs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Show what each holds of the host's memory, in place of the rest
    ///
    /// ASKED is the guest's memory, RESIDENT what its VMM holds: SHARED, which other processes map as well, as a
    /// template's clones do, and UNIQUE. USED counts what is shared by its share. LIMIT is what USED can come to.
    #[arg(long, conflicts_with = "json")]
    memory: bool,
    /// Show again every two seconds until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let shown = |vms: &[VmStatus]| match (vms, args.memory) {
        ([], _) => "no VM is running\n".to_owned(),
        (vms, true) => memory(vms).to_string(),
        (vms, false) => table(vms).to_string(),
    };
    daemon::with(async |client| {
        loop {
            let vms = client.vms().await?;
            match (args.json, args.watch) {
                (true, _) => return output::json(&vms),
                (false, false) => return output::text(&shown(&vms)),
                (false, true) => output::text(&redrawn(&shown(&vms)))?,
            }
            tokio::time::sleep(BEAT).await;
        }
    })
}

const BEAT: Duration = Duration::from_secs(2);

/// On a terminal in place of what was there, else below it.
fn redrawn(table: &str) -> String {
    match output::is_terminal() {
        true => format!("\x1b[H\x1b[2J{table}"),
        false => format!("{table}\n"),
    }
}

fn table(vms: &[VmStatus]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Left),
        ("ID", Left),
        ("STATE", Left),
        ("VMM", Left),
        ("MEMORY", Right),
        ("USED", Right),
        ("CPU", Right),
        ("UPTIME", Right),
        ("SESSIONS", Right),
        ("CALLS", Right),
    ]);
    vms.iter().for_each(|vm| table.row(row(vm)));
    table
}

fn memory(vms: &[VmStatus]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Left),
        ("STATE", Left),
        ("ASKED", Right),
        ("USED", Right),
        ("RESIDENT", Right),
        ("SHARED", Right),
        ("UNIQUE", Right),
        ("LIMIT", Right),
    ]);
    for vm in vms {
        table.row(vec![
            vm.name.to_string(),
            vm.state.clone(),
            format!("{} MiB", vm.memory_mib),
            mib(vm.memory_used_bytes),
            mib(vm.memory_resident_bytes),
            mib(vm.memory_shared_bytes),
            mib(vm.memory_unique_bytes),
            mib(Some(vm.memory_limit_bytes)),
        ]);
    }
    table
}

fn mib(bytes: Option<u64>) -> String {
    bytes.map_or_else(unknown, |bytes| format!("{} MiB", bytes >> 20))
}

fn unknown() -> String {
    "-".to_owned()
}

fn row(vm: &VmStatus) -> Vec<String> {
    vec![
        vm.name.to_string(),
        vm.id.clone(),
        state(vm),
        vmm(vm),
        format!("{} MiB", vm.memory_mib),
        mib(vm.memory_used_bytes),
        vm.cpu_seconds.map_or_else(unknown, |seconds| format!("{seconds:.1} s")),
        uptime(vm.uptime_seconds),
        vm.sessions.to_string(),
        vm.calls.to_string(),
    ]
}

fn vmm(vm: &VmStatus) -> String {
    match vm.vmm.is_empty() {
        true => unknown(),
        false => format!("{} ({})", vm.vmm, vm.accelerator),
    }
}

fn state(vm: &VmStatus) -> String {
    match (&vm.cause, &vm.fault) {
        (Some(cause), _) => format!("{}: {cause}", vm.state),
        (None, Some(fault)) => format!("{} (last fault: {fault})", vm.state),
        (None, None) => vm.state.clone(),
    }
}

/// The two largest units: `3 d 4 h`, `5 min 6 s`, `7 s`.
fn uptime(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_show_two_units() {
        assert_eq!(uptime(7.9), "7 s");
        assert_eq!(uptime(306.0), "5 min 6 s");
        assert_eq!(uptime(7260.0), "2 h 1 min");
        assert_eq!(uptime(200_000.0), "2 d 7 h");
        assert_eq!(uptime(f64::NAN), "0 s");
    }
}
