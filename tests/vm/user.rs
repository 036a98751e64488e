//! An ordinary user, without any privilege: what works for one, and what one may not read.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs};

#[test]
fn an_ordinary_user_launches_calls_and_stops() {
    let osvm = Osvm::ordinary();
    let owner = fs::metadata(osvm.home()).unwrap().uid();
    assert_ne!(owner, 0);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "hello"})).trim(), "hello");
    let vm = osvm.vm("demo");
    let vmm = i32::try_from(vm["pid"].as_i64().unwrap()).unwrap();
    for pid in [vmm, osvm.daemon_pid()] {
        assert_unprivileged(pid, owner);
    }
    let run_dir = fs::metadata(vm["run_dir"].as_str().unwrap()).unwrap();
    assert_eq!((run_dir.uid(), run_dir.mode() & 0o777), (owner, 0o700));
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
}

/// Of that user alone, and without a capability.
#[track_caller]
fn assert_unprivileged(pid: i32, user: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let mut users = value("Uid:").split_whitespace();
    assert!(users.all(|id| id == user.to_string()), "{status}");
    for capabilities in ["CapPrm:", "CapEff:"] {
        assert_eq!(u64::from_str_radix(value(capabilities).trim(), 16), Ok(0), "{status}");
    }
}

#[test]
fn a_kernel_or_an_image_that_may_not_be_read_is_named_and_nothing_is_left() {
    let osvm = Osvm::ordinary();
    let trial = tempfile::tempdir().unwrap();
    open_to_all(trial.path());
    let copy = |from: &str, to: &str| {
        let to = trial.path().join(to);
        fs::copy(osvm.home().join(from), &to).unwrap();
        to
    };
    let kernel = copy("kernel/vmlinux.bin", "kernel");
    let archive = copy("rootfs/mcp-server.cpio", "archive.cpio");
    let (folder, part) = (Rootfs::with_server(MY_SERVER), Rootfs::with_server(MY_SERVER));
    open_to_all(part.path());
    let server = part.path().join("bin/server");
    let behind = folder.path().join("bin/server");
    let cases = [
        ("--kernel", kernel.as_path(), kernel.as_path()),
        ("--rootfs", &archive, &archive),
        ("--image", folder.path(), folder.path()),
        ("--image", part.path(), &server),
        ("--kernel", &behind, folder.path()),
    ];
    for (flag, given, closed) in cases {
        let open = fs::metadata(closed).unwrap().permissions();
        fs::set_permissions(closed, Permissions::from_mode(0o000)).unwrap();
        let given = given.to_str().unwrap();
        let ended = osvm.run(&["mcp", "microvm", "launch", "trial", flag, given]);
        fs::set_permissions(closed, open).unwrap();
        ended.expect(4).says(&[given, "Permission denied", "hint: namei -l"]);
    }
    osvm.assert_nothing_left();
}

fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}
