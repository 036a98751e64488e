//! The boot id (random(4)). The kernel makes it up when it is first read, keeps it, and takes no other: what was read before
//! a template was saved would be that of all its clones. So a file of the clone's own lies over it, for all processes
//! that see the agent's mounts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

/// Below `/proc`.
const BOOT_ID: &str = "sys/kernel/random/boot_id";
/// Another one each time, spelled as the boot id is.
const UUID: &str = "sys/kernel/random/uuid";

const SEALED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Puts another one in its place. `scratch` is a folder that is covered meanwhile.
///
/// The file lies in memory of its own, which nobody reaches but through the boot id's path, and which a server that has
/// filled all it may write to leaves room in.
pub(super) fn renew(proc: &Path, scratch: &Path) -> io::Result<()> {
    mount("boot-id", scratch, "tmpfs", SEALED, c"mode=0700,size=4k")?;
    let renewed = lay_over(proc, &scratch.join("boot_id"));
    // The file stays for as long as it lies over the other.
    let uncovered = unmount(scratch, UnmountFlags::DETACH);
    renewed.and(uncovered.map_err(Into::into))
}

fn lay_over(proc: &Path, own: &Path) -> io::Result<()> {
    let id = fs::read(proc.join(UUID))?;
    File::options().write(true).create_new(true).mode(0o444).open(own)?.write_all(&id)?;
    let boot_id = proc.join(BOOT_ID);
    mount_bind(own, &boot_id)?;
    // The kernel's can't be written to either, not even by root.
    Ok(mount_remount(&boot_id, SEALED | MountFlags::RDONLY | MountFlags::BIND, c"")?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "another process is what is to see it")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::alone;

    fn shown() -> String {
        fs::read_to_string(Path::new("/proc").join(BOOT_ID)).unwrap()
    }

    #[test]
    fn each_is_another_one_also_for_a_process_that_was_there_before() {
        if !alone::inside() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("kept"), "").unwrap();
        let mut waiting = Command::new("cat");
        waiting.args(["-", "/proc/sys/kernel/random/boot_id"]).stdin(Stdio::piped());
        let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
        let kernels = shown();
        renew(Path::new("/proc"), scratch.path()).unwrap();
        let first = shown();
        let seen = waiting.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8(seen).unwrap(), first);
        renew(Path::new("/proc"), scratch.path()).unwrap();
        let second = shown();
        assert!(kernels != first && first != second, "{kernels}{first}{second}");
        assert_eq!([first.len(), second.len()], [kernels.len(); 2]);
        assert!(scratch.path().join("kept").exists(), "what was covered is there again");
        fs::write(Path::new("/proc").join(BOOT_ID), "mine").unwrap_err();
    }

    #[test]
    fn where_it_fails_that_is_told_and_nothing_stays_mounted() {
        if !alone::inside() {
            return;
        }
        let [proc, scratch] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let error = renew(proc.path(), scratch.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("boot-id"), "{mounts}");
    }
}
