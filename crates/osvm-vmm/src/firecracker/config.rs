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

/// In the workplace.
pub(super) const DISK: &str = "disk";

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
    pub(super) beginning: Beginning,
    pub(super) disk: Option<RawFd>,
    pub(super) console: RawFd,
    /// On its command line.
    pub(super) filter: Option<RawFd>,
}

/// What a machine comes to be from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginning {
    Boot { kernel: RawFd, initramfs: RawFd },
    Snapshot { memory: RawFd, state: RawFd },
}

impl Files {
    /// Those that it only reads.
    pub(super) fn read(&self) -> impl Iterator<Item = RawFd> {
        let both = match self.beginning {
            Beginning::Boot { kernel, initramfs } => [kernel, initramfs],
            Beginning::Snapshot { memory, state } => [memory, state],
        };
        both.into_iter().chain(self.disk).chain(self.filter)
    }
}

/// Everything up to and including the start, which leaves a machine of a snapshot paused.
pub(super) fn requests(machine: &Machine, files: &Files, version: &str) -> Vec<Request> {
    match files.beginning {
        Beginning::Boot { kernel, initramfs } => {
            let boot = boot_source(machine, (kernel, initramfs));
            boot_requests(machine, boot, files, version)
        }
        Beginning::Snapshot { memory, state } => {
            let console = has_limits(version).then(|| console(files.console));
            console.into_iter().chain([load(memory, state)]).collect()
        }
    }
}

/// Which devices there are, the snapshot says.
fn load(memory: RawFd, state: RawFd) -> Request {
    let body = json!({
        "snapshot_path": inherited(state),
        "mem_backend": { "backend_path": inherited(memory), "backend_type": "File" },
        "resume_vm": false,
    });
    Request { path: "/snapshot/load", body }
}

fn boot_requests(machine: &Machine, boot: Request, files: &Files, version: &str) -> Vec<Request> {
    let mut requests = vec![machine_config(machine), boot];
    if files.disk.is_some() {
        requests.push(drive());
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
fn boot_source(machine: &Machine, (kernel, initramfs): (RawFd, RawFd)) -> Request {
    let body = json!({
        "kernel_image_path": inherited(kernel),
        "initrd_path": inherited(initramfs),
        "boot_args": machine.command_line("reboot=k pci=off i8042.noaux i8042.nokbd"),
    });
    Request { path: "/boot-source", body }
}

/// By a name that leads to the descriptor, whose number is another in a clone: a snapshot remembers the name.
fn drive() -> Request {
    let body = json!({
        "drive_id": "root",
        "is_root_device": false,
        "is_read_only": true,
        "path_on_host": DISK,
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
