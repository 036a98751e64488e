//! Looks around: everything that could lead to the host or be a part of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::system::SystemInfo;

/// What the demo tells of the machine, and what only somebody who wants to get out asks for.
pub(super) fn look() -> Value {
    let mut seen = SystemInfo::read(Path::new("/proc"), Path::new("/etc/passwd")).to_value();
    seen["processes"] = json!(processes(Path::new("/proc")));
    seen["routes"] = json!(lines("/proc/net/route", 1));
    seen["routes6"] = json!(lines("/proc/net/ipv6_route", 0));
    seen["sockets"] = json!(lines("/proc/net/unix", 1));
    seen["block_devices"] = json!(names("/sys/class/block"));
    seen["pci_devices"] = json!(names("/sys/bus/pci/devices"));
    seen["virtio_devices"] = json!(virtio(Path::new("/sys/bus/virtio/devices")));
    seen
}

/// Command lines by pid; a name in brackets for those that have none, such as the kernel's threads.
fn processes(proc: &Path) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.map(|pid| json!({ "pid": pid, "command": command(&proc.join(pid.to_string())) })).collect()
}

fn command(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    match line.trim() {
        "" => {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            format!("[{}]", name.trim())
        }
        line => line.to_owned(),
    }
}

/// The lines of a table below its headings; none where there is no such table.
fn lines(file: &str, headings: usize) -> Vec<String> {
    let table = fs::read_to_string(file).unwrap_or_default();
    table.lines().skip(headings).map(str::to_owned).collect()
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The kinds of devices that the host offers, by their numbers in the virtio specification.
fn virtio(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let kind = |device: fs::DirEntry| {
        let text = fs::read_to_string(device.path().join("device")).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    entries.filter_map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_command_line_is_named_in_brackets() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("2")).unwrap();
        fs::write(proc.path().join("2/comm"), "kthreadd\n").unwrap();
        assert_eq!(processes(proc.path()), [json!({ "pid": 2, "command": "[kthreadd]" })]);
        fs::write(proc.path().join("2/cmdline"), "/init\0-x\0").unwrap();
        assert_eq!(processes(proc.path())[0]["command"], "/init -x");
    }

    #[test]
    fn kinds_of_devices_are_read_as_numbers() {
        let bus = tempfile::tempdir().unwrap();
        for (name, kind) in [("virtio0", "0x0003\n"), ("virtio1", "nonsense")] {
            fs::create_dir(bus.path().join(name)).unwrap();
            fs::write(bus.path().join(name).join("device"), kind).unwrap();
        }
        assert_eq!(virtio(bus.path()), [3]);
    }
}
