//! Daemons and servers of folders that end while a guest uses a folder.

use std::fs;
use std::path::Path;

use crate::guest::Guest;
use crate::osvm::{eventually, kill};
use crate::rootfs::MY_SERVER;

/// Copies when it is told to, and says so when it is done.
const COPIER: &str = "(cd /work; while [ ! -e go ]; do sleep 0.1; done; cp large copy && mv go done) </dev/null >/dev/null &";

#[test]
fn a_copy_goes_on_while_the_daemon_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let content: Vec<u8> = (0..32_u32 << 20).map(|number| (number / 4093) as u8).collect();
    fs::write(path.join("large"), &content).unwrap();
    let guest = Guest::with_server(&format!("{COPIER}\n{MY_SERVER}"), &[(path, "/work:rw")]);
    let id = guest.osvm.vm("guest")["id"].clone();
    let copied = || fs::metadata(path.join("copy")).map_or(0, |about| about.len());
    fs::write(path.join("go"), "").unwrap();
    for share in [1, 2, 3] {
        eventually("a part is copied", || copied() > share * (content.len() as u64) / 8);
        guest.osvm.crash_daemon();
        guest.osvm.daemon_pid();
    }
    assert!(!path.join("done").exists(), "the daemon has crashed in the middle of it");
    eventually("the copy is done", || path.join("done").exists());
    assert!(fs::read(path.join("copy")).unwrap() == content, "the copy is another");
    assert_eq!(guest.osvm.vm("guest")["id"], id);
    assert_eq!(guest.ok("cd /work; cmp large copy; echo same"), "same");
    guest.stop();
}

#[test]
fn a_vm_whose_folder_is_served_no_more_is_ended_with_its_cause() {
    let folder = super::folder();
    let guest = Guest::lent(&[(folder.path(), "/work:rw")]);
    let server = server_of(&guest, folder.path());
    kill(server);
    eventually("the VM has failed", || guest.osvm.vm("guest")["state"] == "failed");
    let cause = guest.osvm.vm("guest")["cause"].as_str().unwrap().to_owned();
    assert!(
        cause.contains("lent folder") && cause.contains(folder.path().to_str().unwrap()),
        "{cause}"
    );
    guest.osvm.assert_nothing_left();
}

#[test]
fn the_server_of_a_folder_ends_with_a_vmm_that_is_killed() {
    let folder = super::folder();
    let guest = Guest::lent(&[(folder.path(), "/work:rw")]);
    server_of(&guest, folder.path());
    guest.osvm.crash_daemon();
    for pid in vmms(&guest) {
        kill(pid);
    }
    eventually("no process of the VM is left", || guest.osvm.vmm_processes().is_empty());
    eventually("the VM is known to have ended", || {
        guest.osvm.vms().iter().all(|vm| vm["state"] != "ready")
    });
    guest.osvm.assert_nothing_left();
}

/// The one that serves the VM's folder.
fn server_of(guest: &Guest, folder: &Path) -> i32 {
    let vmm = vmms(guest);
    let servers: Vec<_> =
        guest.osvm.vmm_processes().into_iter().filter(|pid| !vmm.contains(pid)).collect();
    assert_eq!(servers.len(), 1, "processes that serve {}", folder.display());
    servers[0]
}

fn vmms(guest: &Guest) -> Vec<i32> {
    let is_vmm = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("qemu") || name.starts_with("firecracker")
    };
    guest.osvm.vmm_processes().into_iter().filter(is_vmm).collect()
}
