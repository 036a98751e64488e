//! The file systems every program expects, and where servers may write.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use rustix::system::sysinfo;

use super::InitError;
use crate::console::say;

/// One file system in memory takes everything that servers write, so that all of it together is bounded.
/// Out-of-memory kills don't free what lies in it.
pub(crate) const SCRATCH: &str = "/.osvm/scratch";

const LOCKED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const SEALED: MountFlags = LOCKED.union(MountFlags::NOEXEC);

/// `/dev`, with the console as standard output and error, so that even a panic is seen.
pub(super) fn devices() -> Result<(), InitError> {
    make_folder("/dev")?;
    match mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755") {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(errno) => return Err(InitError::act("mount /dev")(errno)),
    }
    use_console().map_err(InitError::act("open the console"))
}

fn use_console() -> rustix::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = open(c"/dev/null", flags, Mode::empty())?;
    let console = open(c"/dev/console", flags, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)
}

/// `/proc` and `/sys`.
pub(super) fn kernel_views() -> Result<(), InitError> {
    make_folder("/proc")?;
    make_folder("/sys")?;
    mount("proc", "/proc", "proc", SEALED, None).map_err(InitError::act("mount /proc"))?;
    mount("sys", "/sys", "sysfs", SEALED, None).map_err(InitError::act("mount /sys"))
}

/// Makes `/sys` read-only, once the agent has written there all it has to. The mount, and not what is mounted: the
/// agent may mount that once more for itself.
pub(super) fn seal_sys() -> Result<(), InitError> {
    let flags = SEALED | MountFlags::RDONLY | MountFlags::BIND;
    mount_remount("/sys", flags, c"").map_err(InitError::act("make /sys read-only"))
}

/// The control groups, if the kernel has them: their root, with its controllers handed down.
pub(super) fn control_groups() -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if let Err(errno) = mount("cgroup", root, "cgroup2", SEALED, None) {
        say(format_args!("no control groups, sessions are killed by process group: {errno}"));
        return None;
    }
    for controller in ["+memory", "+pids"] {
        // One that the kernel lacks is done without: the other still helps.
        let _ = fs::write(root.join("cgroup.subtree_control"), controller);
    }
    Some(root.to_owned())
}

/// The memory that everything written goes to: half of what the kernel and the agent have left, so
/// that a full one leaves servers room to run.
pub(super) fn scratch() -> Result<(), InitError> {
    make_folder(SCRATCH)?;
    let memory = sysinfo();
    let free = memory.freeram.saturating_mul(memory.mem_unit.into());
    let options = format!("mode=0700,size={}", free / 2);
    let options = CString::new(options).expect("digits hold no zero byte");
    mount("scratch", SCRATCH, "tmpfs", MountFlags::NODEV, options.as_c_str())
        .map_err(InitError::act("mount memory to write to"))
}

/// Where servers may write, and the devices that only file systems give. Expects [`scratch`] below `/`.
pub(super) fn writable() -> Result<(), InitError> {
    bind_scratch("/tmp", 0o1777)?;
    bind_scratch("/run", 0o755)?;
    make_folder("/dev/shm")?;
    bind_scratch("/dev/shm", 0o1777)?;
    terminals();
    descriptors();
    Ok(())
}

fn bind_scratch(target: &str, mode: u32) -> Result<(), InitError> {
    let act = || InitError::act::<std::io::Error>(format!("mount {target}"));
    let source = Path::new(SCRATCH).join(target.trim_start_matches('/').replace('/', "-"));
    fs::create_dir(&source).map_err(act())?;
    fs::set_permissions(&source, fs::Permissions::from_mode(mode)).map_err(act())?;
    make_folder(target)?;
    mount_bind(&source, target).map_err(|errno| act()(errno.into()))
}

/// Pseudo-terminals, where the kernel has them.
fn terminals() {
    let options = c"newinstance,gid=5,mode=0620,ptmxmode=0666";
    let mounted = fs::create_dir_all("/dev/pts").map_err(|_| Errno::IO).and_then(|()| {
        mount("devpts", "/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
    });
    if !matches!(mounted, Ok(()) | Err(Errno::NODEV)) {
        say(format_args!("failed to mount /dev/pts"));
    }
}

/// The names that shells and scripts know a process's own descriptors by.
fn descriptors() {
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, descriptor) in links {
        let target = format!("/proc/self/fd{descriptor}");
        if let Err(error) = symlink(target, Path::new("/dev").join(name)) {
            say(format_args!("failed to make /dev/{name}: {error}"));
        }
    }
}

/// A folder to mount on; the root of an image may lack it.
pub(super) fn make_folder(path: &str) -> Result<(), InitError> {
    fs::create_dir_all(path).map_err(InitError::act(format!("make {path}")))
}
