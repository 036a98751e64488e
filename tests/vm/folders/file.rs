//! Single files, lent to a server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::guest::{Attempt, Guest, picture, refused};
use crate::osvm::eventually;

const WRITES: &[Attempt] = &[
    ("overwrite", "echo x >settings"),
    ("append", "echo x >>settings"),
    ("truncate", "truncate -s 0 settings"),
    ("change a mode", "chmod 777 settings"),
    ("change times", "touch -d @1 settings"),
    ("set an attribute", "python3 -c 'import os; os.setxattr(\"settings\", \"user.x\", b\"y\")'"),
];

#[test]
fn a_file_is_lent_alone_and_written_only_where_that_was_said() {
    let folder = super::folder();
    let (read, written) = (folder.path().join("settings.json"), folder.path().join("notes.md"));
    fs::write(&read, "as it was").unwrap();
    fs::write(&written, "one\n").unwrap();
    // Where root runs osvm, a file's server is its owner, whose folder it need not be.
    if rustix::process::getuid().is_root() {
        chown(&read, Some(4321), Some(4321)).unwrap();
        fs::set_permissions(&read, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let guest = Guest::lent(&[(&read, "/work/settings:ro"), (&written, "/data/deep/notes.md:rw")]);
    assert_eq!(guest.ok("cat /work/settings /data/deep/notes.md"), "as it wasone");
    // What lies beside them is the guest's own.
    assert_eq!(guest.ok("ls /data/deep; ls /work"), "notes.md\nhello.txt\nsettings");
    assert!(guest.ok("cat /work/hello.txt").contains("quick brown fox"));

    guest.ok("echo two >>/data/deep/notes.md");
    assert_eq!(fs::read_to_string(&written).unwrap(), "one\ntwo\n");
    fs::write(&written, "by the host\n").unwrap();
    // The guest keeps a file's size for a second, and of one that has no folder until somebody asks for it, which
    // busybox's `cat` does not.
    eventually("what the host wrote is seen", || {
        guest.ok("stat /data/deep/notes.md >/dev/null; cat /data/deep/notes.md") == "by the host"
    });
    let before = picture(folder.path());
    refused(&["Read-only file system"], WRITES, |script| guest.sh(script));
    guest.root_sh("mount -o remount,rw /work/settings").expect(0);
    refused(&["Read-only file system"], WRITES, |script| guest.root_sh(script));
    refused(
        &["busy", "Not a directory"],
        &[
            ("remove", "rm -f settings"),
            ("move away", "mv settings other"),
            ("look inside", "cat settings/."),
        ],
        |script| guest.root_sh(script),
    );
    assert_eq!(picture(folder.path()), before);

    // As editors save: the guest goes on with what it was lent.
    let number = fs::metadata(&read).unwrap().ino();
    fs::write(folder.path().join("new"), "another").unwrap();
    fs::rename(folder.path().join("new"), &read).unwrap();
    assert_ne!(fs::metadata(&read).unwrap().ino(), number);
    assert_eq!(guest.ok("cat /work/settings"), "as it was");
    guest.stop();
}
