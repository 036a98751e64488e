//! A folder lent for reading is left as it was, whoever asks in the guest.

use std::fs;
use std::os::unix::fs::symlink;

use crate::guest::{Attempt, Guest, picture, refused};

const WRITES: &[Attempt] = &[
    ("create", "echo x >new"),
    ("overwrite", "echo x >file"),
    ("append", "echo x >>file"),
    ("truncate", "truncate -s 0 file"),
    (
        "map to write",
        "python3 -c 'import mmap; f = open(\"file\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); m[0] = 88; m.flush()'",
    ),
    ("change a mode", "chmod 777 file"),
    ("change a folder's mode", "chmod 777 ."),
    ("change times", "touch -d @1 file"),
    ("change an owner", "chown 7:7 file"),
    ("rename", "mv file other"),
    ("replace", "mv -f file folder/inner"),
    ("move out", "mv -f file /tmp/file"),
    ("unlink", "rm -f file"),
    ("unlink a link", "rm -f link"),
    ("write through a link", "echo x >link"),
    ("make a folder", "mkdir new"),
    ("remove a folder", "rmdir empty"),
    ("make a link", "ln -s file new"),
    ("make a hard link", "ln file new"),
    ("make a pipe", "mkfifo new"),
    ("set an attribute", "python3 -c 'import os; os.setxattr(\"file\", \"user.x\", b\"y\")'"),
    ("remove an attribute", "python3 -c 'import os; os.removexattr(\"file\", \"user.x\")'"),
    ("allocate", "python3 -c 'import os; os.posix_fallocate(os.open(\"file\", 1), 0, 99)'"),
];

#[test]
fn nothing_is_written_by_a_user_by_root_or_after_the_guest_has_remounted_it() {
    let folder = super::folder();
    let path = folder.path();
    fs::write(path.join("file"), "as it was").unwrap();
    fs::create_dir_all(path.join("folder")).unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    fs::write(path.join("folder/inner"), "as it was").unwrap();
    symlink("file", path.join("link")).unwrap();
    let before = picture(path);
    let guest = Guest::lent(&[(path, "/work:ro")]);
    refused(&["Read-only file system"], WRITES, |script| guest.sh(script));
    let words = ["Read-only file system", "Input/output error"];
    refused(&words, WRITES, |script| guest.root_sh(script));
    // From here on the guest's kernel lets its root try, and the host refuses.
    let remounted = "mount -o remount,rw /work; grep ' /work fuse.osvm rw,' /proc/mounts";
    guest.root_sh(remounted).expect(0);
    refused(&["Read-only file system"], WRITES, |script| guest.root_sh(script));
    assert_eq!(guest.ok("cat /work/file /work/folder/inner"), "as it wasas it was");
    assert_eq!(picture(path), before);
    guest.stop();
}
