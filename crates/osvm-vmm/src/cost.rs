//! What a VMM costs the host beyond its guest's memory.

/// Most memory, in MiB, that a VMM with this [accelerator](crate::Driver::accelerator) may come to hold beside the guest's own, whatever the guest does.
///
/// Under emulation that is above all translated code, of which QEMU keeps 256 MiB, and an index to it.
/// SPECIFICATION.md says how the figures were measured and rounded. With KVM nothing is translated.
pub fn overhead_mib(accelerator: &str) -> u32 {
    if accelerator == "tcg" { 448 } else { 64 }
}
