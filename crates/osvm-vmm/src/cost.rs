//! What a VM costs the host.

use osvm_spec::Resources;

/// Most memory, in bytes, that a VM and its VMM with this [accelerator](crate::Driver::accelerator) may
/// hold.
pub fn memory_limit_bytes(resources: Resources, accelerator: &str) -> u64 {
    resources.memory_bytes() + (u64::from(overhead_mib(accelerator)) << 20)
}

/// Most memory, in MiB, that a VMM may come to hold beside the guest's own, whatever the guest does.
///
/// Under emulation that is above all translated code, of which QEMU keeps 256 MiB, and an index to it.
/// SPECIFICATION.md says how the figures were measured and rounded. With KVM nothing is translated.
fn overhead_mib(accelerator: &str) -> u32 {
    if accelerator == "tcg" { 448 } else { 64 }
}
