//! A QEMU is told everything by its arguments.

pub(super) mod echo;

use std::ffi::OsString;
use std::fs;

use anyhow::{Result, ensure};

/// What makes one stand alone.
const ALONE: [&str; 5] = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];

/// For the same guest as that of a running QEMU, with its console at the standard streams.
pub(in crate::bench) fn arguments(pid: u64) -> Result<Vec<OsString>> {
    let alone = ALONE.into_iter().chain(["-serial", "stdio"]).map(OsString::from);
    Ok(guest(pid)?.into_iter().chain(alone).collect())
}

/// Those of a running QEMU that make the guest what it is.
fn guest(pid: u64) -> Result<Vec<OsString>> {
    const KEPT: [&str; 7] = ["-accel", "-cpu", "-m", "-smp", "-kernel", "-initrd", "-append"];
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let given: Vec<_> =
        line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part)).collect();
    let mut guest: Vec<OsString> = Vec::new();
    for pair in given.windows(2) {
        match &*pair[0] {
            flag if KEPT.contains(&flag) => {
                guest.extend([flag.into(), file(pid, &pair[1]).into()]);
            }
            // Its memory is a file that only osvm's process has.
            "-M" | "-machine" => {
                let plain = pair[1].split(',').filter(|part| !part.contains("memory-backend"));
                let plain = plain.collect::<Vec<_>>().join(",");
                guest.extend([pair[0].to_string().into(), plain.into()]);
            }
            _ => {}
        }
    }
    ensure!(guest.iter().any(|flag| flag == "-kernel"), "process {pid} names no kernel");
    Ok(guest)
}

/// A descriptor that only that process has, as the path of the file behind it.
fn file(pid: u64, argument: &str) -> String {
    let inherited = argument.strip_prefix("/proc/self/fd/");
    let path = inherited.and_then(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    path.map_or_else(|| argument.to_owned(), |path| path.display().to_string())
}
