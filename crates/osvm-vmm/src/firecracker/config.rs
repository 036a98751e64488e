//! What Firecracker is told about a machine: one PUT for each part, in order.

use std::os::fd::RawFd;

use osvm_spec::CpuTemplate;
use serde_json::{Value, json};

use super::{TESTED, vsock};
use crate::Machine;
use crate::process::inherited;

/// The guest's vsock address. Each Firecracker has an address space of its own.
const GUEST_CID: u32 = 3;

/// From this version on the console can be limited.
const LIMITS_SINCE: (u32, u32) = (1, 16);

/// From this version on a guest reports pages that it has freed, and they go back to the host.
const REPORTS_SINCE: (u32, u32) = (1, 14);

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

/// Numbers of the descriptors that Firecracker inherits, and opens again by their names: no path of
/// the host is told to it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) kernel: RawFd,
    pub(super) initramfs: RawFd,
    pub(super) disk: Option<RawFd>,
    pub(super) console: RawFd,
    /// On its command line.
    pub(super) filter: Option<RawFd>,
}

/// Everything up to and including the start.
pub(super) fn requests(machine: &Machine, files: &Files, version: &str) -> Vec<Request> {
    let mut requests = vec![machine_config(machine), boot_source(machine, files)];
    if let Some(disk) = files.disk {
        requests.push(drive(disk));
    }
    let vsock = json!({ "guest_cid": GUEST_CID, "uds_path": vsock::SOCKET });
    requests.push(Request { path: "/vsock", body: vsock });
    requests.push(Request { path: "/entropy", body: json!({}) });
    if has_reports(version) {
        requests.push(balloon());
    }
    if has_limits(version) {
        requests.push(console(files.console));
    }
    let start = json!({ "action_type": "InstanceStart" });
    requests.push(Request { path: "/actions", body: start });
    requests
}

fn machine_config(machine: &Machine) -> Request {
    let mut body = json!({
        "vcpu_count": machine.resources.vcpus(),
        "mem_size_mib": machine.resources.memory_mib(),
    });
    if machine.cpu_template != CpuTemplate::None {
        body["cpu_template"] = machine.cpu_template.as_str().to_uppercase().into();
    }
    Request { path: "/machine-config", body }
}

/// Never inflated: it is there for the guest to report what it has freed. A guest that is short of
/// memory may deflate it.
fn balloon() -> Request {
    let body = json!({ "amount_mib": 0, "deflate_on_oom": true, "free_page_reporting": true });
    Request { path: "/balloon", body }
}

/// `reboot=k`: a reset through the keyboard controller is how a guest ends. Nothing else is
/// attached to that controller, and looking for it takes time.
fn boot_source(machine: &Machine, files: &Files) -> Request {
    let body = json!({
        "kernel_image_path": inherited(files.kernel),
        "initrd_path": inherited(files.initramfs),
        "boot_args": machine.command_line("reboot=k pci=off i8042.noaux i8042.nokbd"),
    });
    Request { path: "/boot-source", body }
}

fn drive(disk: RawFd) -> Request {
    let body = json!({
        "drive_id": "root",
        "is_root_device": false,
        "is_read_only": true,
        "path_on_host": inherited(disk),
    });
    Request { path: "/drives/root", body }
}

fn console(console: RawFd) -> Request {
    let body = json!({
        "serial_out_path": inherited(console),
        "rate_limiter": {
            "size": CONSOLE_SIZE,
            "one_time_burst": CONSOLE_BURST,
            "refill_time": CONSOLE_REFILL,
        },
    });
    Request { path: "/serial", body }
}

fn has_limits(version: &str) -> bool {
    is_since(version, LIMITS_SINCE)
}

/// Whether idle guests give memory back.
pub(super) fn has_reports(version: &str) -> bool {
    is_since(version, REPORTS_SINCE)
}

/// What to say of a version that is not among the tested ones.
pub(super) fn untested(version: &str) -> Option<String> {
    let is_tested = TESTED.contains(&numbers(version));
    let tested: Vec<_> = TESTED.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    let tested = tested.join(", ");
    (!is_tested).then(|| format!("firecracker {version} is untested with osvm; tested: {tested}"))
}

/// Whether a version such as `1.16.1` or `1.17.0-dev` is that one or newer.
pub(super) fn is_since(version: &str, since: (u32, u32)) -> bool {
    numbers(version) >= since
}

fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
