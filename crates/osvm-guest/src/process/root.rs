//! The root that a process finds: the machine's, or one of its own over that, which goes with it.
//!
//! ```text
//! /                 an overlay: what is written goes to `upper`
//!   dev proc sys    the machine's, but for its boot id
//!   tmp run dev/shm empty
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use osvm_wire::message::Refusal;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_move,
};
use rustix::process::{chdir, chroot};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::init::SCRATCH;

/// A process's view of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// That of all processes.
    Shared,
    /// A view of the same files that nobody else has.
    Own,
}

/// Most bytes that are written to one.
const SIZE: &std::ffi::CStr = c"mode=0755,size=50%";

/// The kernel makes it up when it is first read, and keeps it: that is not to happen for a process whose machine others
/// are cloned from.
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const NO_BOOT_ID: &str = "00000000-0000-4000-8000-000000000000\n";

impl Root {
    /// Has `start` run where what it starts finds this root.
    pub(crate) fn with<T: Send>(
        self,
        start: impl FnOnce() -> Result<T, Refusal> + Send,
    ) -> Result<T, Refusal> {
        match self {
            Self::Shared => start(),
            // A thread that has gone elsewhere can't come back.
            Self::Own => thread::scope(|scope| {
                let elsewhere = scope.spawn(|| {
                    enter_own().map_err(|error| refused(&error))?;
                    start()
                });
                elsewhere.join().unwrap_or_else(|_| Err(refused(&io::ErrorKind::Other.into())))
            }),
        }
    }
}

fn refused(error: &io::Error) -> Refusal {
    Refusal::Failed { act: "make a root of its own".to_owned(), why: error.to_string() }
}

/// This thread's root is another one from now on, and that of all processes that it starts.
fn enter_own() -> io::Result<()> {
    // SAFETY: what is unshared belongs to this thread alone afterwards; no file descriptors are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("own", SCRATCH, "tmpfs", MountFlags::NODEV, SIZE)?;
    let scratch = Path::new(SCRATCH);
    let root = scratch.join("root");
    for name in ["upper", "work", "root"] {
        fs::create_dir(scratch.join(name))?;
    }
    let layers = format!("lowerdir=/,upperdir={SCRATCH}/upper,workdir={SCRATCH}/work");
    let layers = std::ffi::CString::new(layers).expect("paths of ours hold no zero byte");
    mount("own", &root, "overlay", MountFlags::NODEV, layers.as_c_str())?;
    for name in ["dev", "proc", "sys"] {
        mount_bind_recursive(Path::new("/").join(name), root.join(name))?;
    }
    for name in ["tmp", "run", "dev/shm"] {
        let own = scratch.join(name.replace('/', "-"));
        fs::create_dir(&own)?;
        fs::set_permissions(&own, fs::metadata(Path::new("/").join(name))?.permissions())?;
        mount_bind(own, root.join(name))?;
    }
    let boot_id = scratch.join("boot_id");
    fs::write(&boot_id, NO_BOOT_ID)?;
    mount_bind(boot_id, root.join(BOOT_ID))?;
    chdir(&root)?;
    mount_move(".", "/")?;
    chroot(".")?;
    Ok(())
}
