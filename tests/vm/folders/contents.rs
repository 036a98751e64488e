//! What is in a lent folder, to the guest's programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use rustix::process::getuid;

use crate::guest::Guest;

#[test]
fn files_are_renamed_mapped_owned_and_named_as_on_any_disk() {
    let folder = super::folder();
    let path = folder.path();
    fs::write(path.join(OsStr::from_bytes(b"caf\xe9")), "latin").unwrap();
    fs::write(path.join("data"), vec![b'x'; 3 << 20]).unwrap();
    let guest = Guest::lent(&[(path, "/work:rw")]);

    let name = guest.ok("cd /work; cat caf*; mv caf* $(printf '\\377\\376'); python3 -c 'import os; print(os.listdir(b\".\"))'");
    assert!(name.starts_with("latin") && name.contains(r"\xff\xfe"), "{name}");
    assert!(path.join(OsStr::from_bytes(b"\xff\xfe")).exists());

    let mapped = "import mmap; f = open('/work/data', 'r+b'); m = mmap.mmap(f.fileno(), 0); \
                  assert m[:] == b'x' * (3 << 20); m[2 << 20] = ord('y'); m.flush()";
    guest.ok(&format!("python3 -c \"{mapped}\""));
    assert_eq!(fs::read(path.join("data")).unwrap()[2 << 20], b'y');

    guest
        .ok("cd /work; mkdir -p a/b; echo 1 >a/b/c; mv a z; mv z/b .; mv b/c hello.txt; rmdir z b");
    assert_eq!(fs::read_to_string(path.join("hello.txt")).unwrap(), "1\n");

    let ids = guest.ok("cd /work; stat -c %u data; echo >new; stat -c %u new; id -u");
    let ids: Vec<_> = ids.lines().collect();
    assert!(ids.iter().all(|id| *id == ids[2]) && ids[2] != "0", "{ids:?}");
    let owner = fs::metadata(path).unwrap().uid();
    assert_eq!(fs::metadata(path.join("new")).unwrap().uid(), owner);
    if getuid().is_root() {
        fs::write(path.join("theirs"), "").unwrap();
        chown(path.join("theirs"), Some(12345), Some(12345)).unwrap();
        assert_eq!(guest.ok("stat -c %u:%g /work/theirs"), "65534:65534");
    }
    let attribute = "import os; os.setxattr('/work/new', 'user.x', b'y'); print(os.getxattr('/work/new', 'user.x'))";
    assert_eq!(guest.ok(&format!("python3 -c \"{attribute}\"")), "b'y'");
    guest.stop();
}

#[test]
fn a_hundred_thousand_entries_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        fs::File::create(folder.path().join(number.to_string())).unwrap();
    }
    let guest = Guest::lent(&[(folder.path(), "/work:ro")]);
    let count = "import os; print(len(set(os.listdir('/work'))))";
    assert_eq!(guest.ok(&format!("python3 -c \"{count}\"")), "100000");
    assert_eq!(guest.ok("cd /work; stat -c %s 0 50000 99999").lines().count(), 3);
    guest.stop();
}

#[test]
fn folders_lie_beside_and_in_one_another() {
    let (outer, inner, beside) = (super::folder(), super::folder(), super::folder());
    for (folder, text) in [(&outer, "outer"), (&inner, "inner"), (&beside, "beside")] {
        fs::write(folder.path().join("name"), text).unwrap();
    }
    fs::create_dir(outer.path().join("in")).unwrap();
    let guest = Guest::lent(&[
        (inner.path(), "/work/in:ro"),
        (outer.path(), "/work:rw"),
        (beside.path(), "/srv/new/beside:rw"),
    ]);
    assert_eq!(guest.ok("cat /work/name /work/in/name /srv/new/beside/name"), "outerinnerbeside");
    guest.ok("echo x >/work/new; echo x >/srv/new/beside/new; ! echo x >/work/in/new");
    guest.ok("cp /work/in/name /work/copy; mv /work/copy /srv/new/beside/moved");
    assert_eq!(fs::read_to_string(beside.path().join("moved")).unwrap(), "inner");
    assert!(!outer.path().join("in/name").exists() && !inner.path().join("new").exists());
    guest.stop();
}

#[test]
fn a_full_disk_is_told_and_breaks_nothing() {
    if !getuid().is_root() {
        return eprintln!("skipped: only root mounts a small file system");
    }
    let small = Small::mount();
    fs::write(small.0.path().join("kept"), vec![7; 1 << 20]).unwrap();
    let guest = Guest::lent(&[(small.0.path(), "/work:rw")]);
    let full = guest.sh("dd if=/dev/zero of=/work/large bs=64k count=128");
    full.expect(1).says(&["No space left on device"]);
    let synced = guest.sh("cd /work; yes >>kept");
    synced.expect(1).says(&["No space left on device"]);
    assert_eq!(guest.ok("head -c 1048576 /work/kept | tr -d '\\007' | wc -c"), "0");
    assert_eq!(fs::read(small.0.path().join("kept")).unwrap()[..1 << 20], vec![7; 1 << 20]);
    guest.ok("cd /work; rm large; truncate -s 0 kept; dd if=/dev/zero of=again bs=64k count=32");
    assert_eq!(fs::metadata(small.0.path().join("again")).unwrap().len(), 2 << 20);
    guest.stop();
}

/// A file system of 4 MiB.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(folder.path()).status().unwrap();
        assert!(mounted.success());
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A pipe is locked for as long as a program splices between it and a file, which here is until the agent that has the
/// pipe's other end has carried what the host says about the file.
#[test]
fn programs_splice_between_folders_and_their_standard_streams() {
    let folder = super::folder();
    let path = folder.path();
    fs::create_dir(path.join("many")).unwrap();
    for number in 0..400 {
        fs::write(path.join(format!("many/{number:03}")), format!("{number:05}\n")).unwrap();
    }
    let guest = Guest::lent(&[(path, "/work:rw")]);
    let sent = "cd /work/many; python3 -c 'import os, sys
for name in sys.argv[1:]: os.sendfile(1, os.open(name, 0), 0, 100)' *";
    let all: String = (0..400).map(|number| format!("{number:05}\n")).collect();
    assert_eq!(guest.sh(sent).expect(0).stdout, all);
    let spliced = "import os
out = os.open('/work/out', os.O_WRONLY | os.O_CREAT)
while os.splice(0, out, 1 << 16): pass";
    let exec = ["mcp", "microvm", "exec", "guest", "--", "python3", "-c", spliced];
    let input = vec![b'x'; 4 << 20];
    guest.osvm.run_with(&exec, &input).expect(0);
    assert!(fs::read(path.join("out")).unwrap() == input);
    guest.stop();
}
