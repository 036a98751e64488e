//! What Firecracker is told about a machine: one PUT for each part, in order.

use std::path::Path;

use serde_json::{Value, json};

use super::vsock;
use crate::{Machine, VmmError, logs};

/// The guest's vsock address. Each Firecracker has an address space of its own.
const GUEST_CID: u32 = 3;

/// From this version on the console can be limited, and messages of one kind come at most 10 in 5
/// s.
const LIMITS_SINCE: (u32, u32) = (1, 16);

/// A guest may write that much to its console at once,
const CONSOLE_BURST: u64 = 1 << 20;
/// and after that so much
const CONSOLE_SIZE: u64 = 64 << 10;
/// in that time, in milliseconds: 1.5 MiB a day. What goes beyond is dropped.
const CONSOLE_REFILL: u64 = 3_600_000;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: &'static str,
    pub(super) body: Value,
}

/// What Firecracker itself may log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Off,
    Error,
}

impl Level {
    /// Nothing, where a guest could make it log without limit.
    pub(super) fn of(version: &str) -> Self {
        if has_limits(version) { Self::Error } else { Self::Off }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Error => "Error",
        }
    }
}

/// Everything up to and including the start.
pub(super) fn requests(machine: &Machine, version: &str) -> Result<Vec<Request>, VmmError> {
    let mut requests = vec![machine_config(machine), boot_source(machine)?];
    if let Some(disk) = &machine.disk {
        requests.push(drive(disk)?);
    }
    let vsock = json!({ "guest_cid": GUEST_CID, "uds_path": vsock::SOCKET });
    requests.push(Request { path: "/vsock", body: vsock });
    requests.push(Request { path: "/entropy", body: json!({}) });
    if has_limits(version) {
        requests.push(console(&machine.logs.join(logs::CONSOLE))?);
    }
    let start = json!({ "action_type": "InstanceStart" });
    requests.push(Request { path: "/actions", body: start });
    Ok(requests)
}

fn machine_config(machine: &Machine) -> Request {
    let body = json!({
        "vcpu_count": machine.resources.vcpus(),
        "mem_size_mib": machine.resources.memory_mib(),
    });
    Request { path: "/machine-config", body }
}

/// `reboot=k`: a reset through the keyboard controller is how a guest ends. Nothing else is
/// attached to that controller, and looking for it takes time.
fn boot_source(machine: &Machine) -> Result<Request, VmmError> {
    let body = json!({
        "kernel_image_path": text("open kernel", &machine.kernel.path)?,
        "initrd_path": text("open initramfs", &machine.initramfs)?,
        "boot_args": machine.command_line("reboot=k pci=off i8042.noaux i8042.nokbd"),
    });
    Ok(Request { path: "/boot-source", body })
}

fn drive(disk: &Path) -> Result<Request, VmmError> {
    let body = json!({
        "drive_id": "root",
        "is_root_device": false,
        "is_read_only": true,
        "path_on_host": text("open root disk", disk)?,
    });
    Ok(Request { path: "/drives/root", body })
}

fn console(path: &Path) -> Result<Request, VmmError> {
    let body = json!({
        "serial_out_path": text("create", path)?,
        "rate_limiter": {
            "size": CONSOLE_SIZE,
            "one_time_burst": CONSOLE_BURST,
            "refill_time": CONSOLE_REFILL,
        },
    });
    Ok(Request { path: "/serial", body })
}

/// JSON holds text only.
fn text(act: &'static str, path: &Path) -> Result<String, VmmError> {
    let text = path.to_str().ok_or_else(|| VmmError::File {
        act,
        path: path.to_owned(),
        source: std::io::Error::other("firecracker takes only paths that are UTF-8"),
    })?;
    Ok(text.to_owned())
}

fn has_limits(version: &str) -> bool {
    is_since(version, LIMITS_SINCE)
}

/// Whether a version such as `1.16.1` or `1.17.0-dev` is that one or newer.
pub(super) fn is_since(version: &str, since: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= since
}
