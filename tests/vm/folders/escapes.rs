//! Ways out of a lent folder, and ways to leave something dangerous in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use crate::guest::{Attempt, Guest, picture, refused};

/// A folder to be lent, in one that has a secret beside it.
fn surrounded() -> (TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("folder");
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::create_dir(around.path().join("outside")).unwrap();
    fs::write(around.path().join("outside/name"), "outside").unwrap();
    fs::write(folder.join("inner/name"), "inside\n").unwrap();
    (around, folder)
}

/// Links that lead to the secret on the host.
fn link_to(outside: &Path, folder: &Path) {
    symlink(outside.join("name"), folder.join("absolute")).unwrap();
    symlink(outside, folder.join("absolute-folder")).unwrap();
    symlink("../outside/name", folder.join("relative")).unwrap();
    symlink("../../outside", folder.join("inner/relative-folder")).unwrap();
    symlink("/proc/self/cwd/../outside/name", folder.join("by-proc")).unwrap();
}

const READS: &[Attempt] = &[
    ("follow an absolute link", "cat absolute"),
    ("follow an absolute link to a folder", "cat absolute-folder/name"),
    ("follow a relative link", "cat relative"),
    ("follow a relative link to a folder", "cat inner/relative-folder/name"),
    ("follow a link by way of /proc", "cat by-proc"),
    ("climb out", "cat ../outside/name"),
    ("climb out from within", "cd inner; cat ../../outside/name"),
    ("follow a link of its own", "ln -s ../outside own; cat own/name"),
    ("write through a link", "echo x >relative"),
    ("make a file behind a link", "echo x >absolute-folder/new"),
    ("change a mode behind a link", "chmod 777 absolute"),
];

#[test]
fn links_lead_nowhere_on_the_host() {
    let (around, folder) = surrounded();
    let outside = around.path().join("outside");
    link_to(&outside, &folder);
    let before = picture(&outside);
    let guest = Guest::lent(&[(&folder, "/work:rw")]);
    let nowhere = ["No such file or directory", "nonexistent directory", "can't create"];
    refused(&nowhere, READS, |script| guest.sh(script));
    refused(&nowhere, &READS[..7], |script| guest.root_sh(script));
    assert_eq!(picture(&outside), before);
    guest.stop();
}

/// Tries again and again what is a folder in one moment and a link in the next, until the folder was met: the guest
/// remembers either for a second.
const USE: &str = r#"
n=0
while [ $n -lt 60 ]; do
    i=0
    while [ $i -lt 500 ]; do
        i=$((i+1))
        read -r line </work/inner/name && echo "$line" >>/tmp/seen || true
        echo >>/work/inner/made || true
    done 2>/dev/null
    grep -q inside /tmp/seen && break
    n=$((n+1))
    sleep 0.3
done
cat /tmp/seen"#;

#[test]
fn a_link_swapped_in_under_use_leads_nowhere_on_the_host() {
    let (around, folder) = surrounded();
    let (inner, trap) = (folder.join("inner"), folder.join("trap"));
    symlink(around.path().join("outside"), &trap).unwrap();
    let guest = Guest::lent(&[(&folder, "/work:rw")]);
    let is_over = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                renameat_with(CWD, &inner, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let read = guest.sh(USE);
        is_over.store(true, Ordering::SeqCst);
        read
    });
    let read = read.expect(0).stdout;
    assert!(read.contains("inside") && !read.contains("outside"), "{read}");
    assert!(!around.path().join("outside/made").exists());
    guest.stop();
}

#[test]
fn a_folder_moved_out_of_the_lent_one_is_no_way_out() {
    let (around, folder) = surrounded();
    let guest = Guest::with_server(
        &format!("cd /work/inner; {}", crate::rootfs::MY_SERVER),
        &[(&folder, "/work:rw")],
    );
    assert_eq!(guest.ok("cat /proc/$(pidof sh | tr ' ' '\\n' | tail -n 1)/cwd/name"), "inside");
    fs::rename(folder.join("inner"), around.path().join("moved")).unwrap();
    let climb = "for pid in $(pidof sh); do cat /proc/$pid/cwd/../outside/name; done";
    let ended = guest.root_sh(climb);
    assert!(!ended.stdout.contains("outside"), "{ended:?}");
    assert_eq!(guest.ok("ls /work"), "");
    guest.stop();
}

#[test]
fn devices_pipes_and_bits_that_give_rights_are_not_left_on_the_host() {
    let (_around, folder) = surrounded();
    fs::write(folder.join("host-file"), "").unwrap();
    fs::set_permissions(folder.join("host-file"), fs::Permissions::from_mode(0o755)).unwrap();
    let guest = Guest::lent(&[(&folder, "/work:rw-all")]);
    let not_permitted: &[Attempt] = &[
        ("make a disk", "mknod disk b 253 0"),
        ("make a device", "mknod null c 1 3"),
        ("make a pipe", "mkfifo pipe"),
        ("give a file away", "chown 12345 host-file"),
        ("give a file to root", "chown 0:0 host-file"),
        (
            "set a capability",
            "python3 -c 'import os; os.setxattr(\"host-file\", \"security.capability\", bytes([0, 0, 0, 2]) + bytes(16))'",
        ),
        (
            "set a trusted attribute",
            "python3 -c 'import os; os.setxattr(\"host-file\", \"trusted.x\", b\"\")'",
        ),
    ];
    let reasons = ["Operation not permitted", "Operation not supported", "Not supported"];
    refused(&reasons, not_permitted, |script| guest.root_sh(script));
    let across: &[Attempt] = &[
        ("link a file of the guest's", "ln /etc/passwd passwd"),
        ("link one to the guest", "ln host-file /etc/host-file"),
    ];
    refused(&["ross-device link"], across, |script| guest.root_sh(script));
    guest.root_sh("cd /work; cp /bin/busybox su; chmod 6755 su host-file; ln su su-2").expect(0);
    guest
        .root_sh("cd /work; python3 -c 'import os; os.close(os.open(\"new\", 65, 0o6755))'")
        .expect(0);
    for name in ["su", "su-2", "host-file", "new"] {
        let about = fs::metadata(folder.join(name)).unwrap();
        assert_eq!(about.mode() & 0o7000, 0, "{name}: {:o}", about.mode());
        assert_eq!(about.uid(), fs::metadata(&folder).unwrap().uid(), "{name}");
    }
    let names = ["disk", "null", "pipe", "passwd"];
    assert!(!names.iter().any(|name| folder.join(name).exists()));
    guest.stop();
}
