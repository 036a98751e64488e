//! What an idle clone has of the host's memory that nobody else has, its VMM included.

use anyhow::Result;

use crate::bench::osvm::{Osvm, is_firecrackers};
use crate::bench::processes::memory_kib;
use crate::bench::table::Figure;

/// There at once, since what they share counts for none of them.
const CLONES: usize = 4;

/// What one may have, in MiB.
const BY_QEMU: f64 = 20.0;
const BY_FIRECRACKER: f64 = 8.0;

pub(super) fn figure(osvm: &Osvm) -> Result<Figure> {
    let count = CLONES.to_string();
    let many = ["mcp", "microvm", "launch-many", &count, "--memory", "128"];
    osvm.ok(&[&many[..], &["--template", "booted"]].concat())?;
    let vms = osvm.vms()?;
    let unique = vms.iter().map(|vm| memory_kib(&vm["pid"].to_string(), "Private_"));
    let unique = unique.sum::<Result<u64>>()?;
    osvm.ok(&["mcp", "microvm", "stop", "--all"])?;
    let target = if vms.iter().all(is_firecrackers) { BY_FIRECRACKER } else { BY_QEMU };
    let each = unique as f64 / 1024.0 / vms.len() as f64;
    let what =
        format!("memory of an idle clone that no other has, VMM included ({CLONES} of them)");
    Ok(Figure::mib(&what, each).at_most(target))
}
