//! Many VMs at once: all of them answer, and what each costs the host beyond its guest's memory.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::osvm::Osvm;
use super::table::Figure;
use super::timed;

/// Memory of each.
const MIB: u64 = 128;

/// Launches `count` VMs, has each answer a call, looks at their memory, and stops them.
pub(super) fn figures(osvm: &Osvm, count: usize) -> Result<Vec<Figure>> {
    // With a daemon that runs already, only the VMs come.
    osvm.daemon_resident()?;
    let before = available_kib()?;
    let (number, memory) = (count.to_string(), MIB.to_string());
    let launch = timed(|| {
        let many = ["mcp", "microvm", "launch-many", &number, "--memory", &memory];
        osvm.ok(&many).map(drop)
    })?;
    let vms = osvm.vms()?;
    ensure!(vms.len() == count, "{} of {count} VMs are there", vms.len());
    for vm in &vms {
        let name = vm["name"].as_str().context("read a VM's name")?;
        osvm.ok(&["mcp", "call", name, "echo", r#"{"text":"here"}"#])?;
    }
    let after = available_kib()?;
    let guests =
        vms.iter().map(|vm| Guest::of(&vm["pid"].to_string())).collect::<Result<Vec<_>>>()?;
    let stop = timed(|| osvm.ok(&["mcp", "microvm", "stop", "--all"]).map(drop))?;
    ensure!(osvm.vms()?.is_empty(), "VMs are left");
    for vm in &vms {
        let left = fs::exists(vm["run_dir"].as_str().unwrap_or_default())?
            || fs::exists(format!("/proc/{}", vm["pid"]))?;
        ensure!(!left, "something of VM {} is left", vm["name"]);
    }
    let each = |kib: u64| kib as f64 / 1024.0 / count as f64;
    let touched = guests.iter().map(|guest| guest.touched_kib).sum::<u64>();
    let vmm = guests.iter().map(|guest| guest.vmm_kib).sum::<u64>();
    let host = before.saturating_sub(after).saturating_sub(touched);
    Ok(vec![
        Figure::millis(&format!("launch-many {count} --memory {MIB}"), launch),
        Figure::mib("memory that each guest touched", each(touched)),
        Figure::mib("the VMM's own memory, each (Pss)", each(vmm)),
        Figure::mib("all that the host has less, beyond the guests' memory, each", each(host))
            .at_most(6.0),
        Figure::millis(&format!("stop --all of {count}, nothing left"), stop).at_most(10_000.0),
    ])
}

/// Memory of one VMM's process.
struct Guest {
    touched_kib: u64,
    vmm_kib: u64,
}

impl Guest {
    fn of(pid: &str) -> Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        Ok(Self::told_by(&maps))
    }

    /// The guest's memory is one mapping, and the only one of that size.
    fn told_by(maps: &str) -> Self {
        let mut guest = Self { touched_kib: 0, vmm_kib: 0 };
        let mut is_guests = false;
        for (key, kib) in maps.lines().filter_map(field) {
            match key {
                "Size" => is_guests = kib >= MIB * 1024,
                "Pss" if is_guests => guest.touched_kib += kib,
                "Pss" => guest.vmm_kib += kib,
                _ => {}
            }
        }
        guest
    }
}

/// `Pss:      12 kB`
fn field(line: &str) -> Option<(&str, u64)> {
    let (key, value) = line.split_once(':')?;
    Some((key, value.trim().strip_suffix("kB")?.trim().parse().ok()?))
}

fn available_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let mut fields = text.lines().filter_map(field);
    let available = fields.find(|(key, _)| *key == "MemAvailable");
    Ok(available.context("read the host's available memory")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_told_from_the_vmms() {
        let maps = "7f00-7f10 rw-p 0 00:00 0\nSize:  131072 kB\nRss: 9 kB\nPss: 40000 kB\n\
                    5500-5510 r-xp 0 00:01 7 /vmm\nSize: 3000 kB\nPss: 1500 kB\nPss_Dirty: 7 kB\n";
        let guest = Guest::told_by(maps);
        assert_eq!((guest.touched_kib, guest.vmm_kib), (40_000, 1500));
    }
}
