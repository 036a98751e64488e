//! Whether the host can hold one more VM.

use std::fs;
use std::path::Path;

use osvm_spec::Resources;

use crate::state::{Cause, CauseKind};

/// What a VM needs at least while it starts, in KiB: the VMM and the guest's own pages.
const NEED_KIB: u64 = 96 * 1024;

/// Refuses a VM that is larger than the host, and any VM while memory has run out. Memory that a
/// guest never touches costs nothing, so sizes are not added up.
pub(crate) fn admit(proc: &Path, resources: Resources) -> Result<(), Cause> {
    let Some(host) = Host::read(proc) else { return Ok(()) };
    let asked = resources.memory_bytes() / 1024;
    if asked > host.total_kib {
        let message = format!(
            "memory of {} MiB is more than this host's {} MiB",
            resources.memory_mib(),
            host.total_kib / 1024
        );
        return Err(Cause::new(CauseKind::Machine, message).hint("--memory with a smaller number"));
    }
    if host.available_kib < NEED_KIB {
        let message = format!(
            "this host has {} MiB of memory available, a VM needs {} MiB to start",
            host.available_kib / 1024,
            NEED_KIB / 1024
        );
        return Err(Cause::new(CauseKind::Machine, message).hint("osvm mcp microvm status"));
    }
    Ok(())
}

struct Host {
    total_kib: u64,
    available_kib: u64,
}

impl Host {
    fn read(proc: &Path) -> Option<Self> {
        let text = fs::read_to_string(proc.join("meminfo")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { total_kib: field("MemTotal")?, available_kib: field("MemAvailable")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(total_kib: u64, available_kib: u64) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let text = format!("MemTotal: {total_kib} kB\nMemAvailable: {available_kib} kB\n");
        fs::write(proc.path().join("meminfo"), text).unwrap();
        proc
    }

    #[test]
    fn a_vm_larger_than_the_host_is_refused_with_both_numbers() {
        let proc = host(1024 * 1024, 512 * 1024);
        let refused = admit(proc.path(), Resources::new(2048, 1).unwrap()).unwrap_err();
        assert!(refused.message.contains("2048 MiB"), "{refused}");
        assert!(refused.message.contains("1024 MiB"), "{refused}");
    }

    #[test]
    fn a_host_without_free_memory_takes_no_more() {
        let proc = host(8 * 1024 * 1024, 10 * 1024);
        assert!(admit(proc.path(), Resources::default()).is_err());
        let proc = host(8 * 1024 * 1024, 1024 * 1024);
        assert!(admit(proc.path(), Resources::default()).is_ok());
    }
}
