//! The end of the VM.

use rustix::system::{RebootCommand, reboot};

/// Ends the VM. Nothing needs to be unmounted: the disk is read-only, and what is written lives in memory, or has
/// reached the host by now.
///
/// By a restart, not a power-off: without ACPI a power-off only halts the CPUs, whereas every VMM ends on a
/// restart (QEMU with `-no-reboot`; Firecracker always), provided that the kernel's `reboot=` fits it.
pub(crate) fn off() {
    if let Err(errno) = reboot(RebootCommand::Restart) {
        crate::console::say(format_args!("failed to restart: {errno}"));
    }
}
