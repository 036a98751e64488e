//! A root file system of the VMM's own: a tmpfs that holds what its program needs, read-only, and
//! nothing else of the host.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use serde::{Deserialize, Serialize};

/// What is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Root {
    /// Files and folders of the host, each at its own path.
    pub(crate) places: Vec<OsString>,
    /// The folder in which it works, or a file, in whose folder there is nothing else then.
    pub(crate) folder: Option<Workplace>,
    /// Devices below `/dev`, by name.
    pub(crate) devices: Vec<String>,
    /// Devices are made anew, for this user alone, where the caller may do so.
    pub(crate) owner: Option<u32>,
}

/// A folder that is not only looked into.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Workplace {
    pub(crate) path: OsString,
    pub(crate) is_read_only: bool,
}

impl Workplace {
    pub(super) fn writable(path: &Path) -> Self {
        Self { path: path.into(), is_read_only: false }
    }

    fn attributes(&self) -> u64 {
        if self.is_read_only { UNSEALED | READ_ONLY } else { UNSEALED }
    }
}

/// Where the tmpfs is mounted until it becomes the root: a folder that every host has, and of which
/// a new one is mounted afterwards.
const SCAFFOLD: &str = "/proc";

impl Root {
    /// Makes it the root of the calling process, which is the first of its PID namespace and the
    /// only one in its mount namespace.
    pub(super) fn enter(&self) -> io::Result<()> {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        let places = self.places.iter().map(|path| Copy::of(Path::new(path), SEALED));
        let places = places.collect::<io::Result<Vec<_>>>()?;
        let folder = self.folder.iter().map(|f| Copy::of(Path::new(&f.path), f.attributes()));
        let folder = folder.collect::<io::Result<Vec<_>>>()?;
        let devices = self.devices.iter().map(|name| self.device(name));
        let devices = devices.collect::<io::Result<Vec<_>>>()?;
        mount("tmpfs", SCAFFOLD, "tmpfs", MountFlags::NOSUID, c"mode=0755,size=64k,nr_inodes=512")?;
        std::env::set_current_dir(SCAFFOLD)?;
        for copy in places.iter().chain(&folder).chain(devices.iter().flatten()) {
            copy.attach()?;
        }
        self.make_devices()?;
        fs::create_dir("proc")?;
        mount_proc()?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        set_attributes(CWD, "/", READ_ONLY, 0)?;
        let folder = self.folder.as_ref().map(|folder| Path::new(&folder.path));
        std::env::set_current_dir(folder.map_or(Path::new("/"), folder_of))
    }

    /// The host's own device, where none can be made.
    fn device(&self, name: &str) -> io::Result<Option<Copy>> {
        match self.owner {
            Some(_) => Ok(None),
            None => Copy::of(&Path::new("/dev").join(name), NO_SUID | NO_EXEC).map(Some),
        }
    }

    fn make_devices(&self) -> io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        fs::create_dir_all("dev")?;
        for name in &self.devices {
            let path = Path::new("dev").join(name);
            let number = device_number(name)?;
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), number)?;
            std::os::unix::fs::chown(&path, Some(owner), Some(owner))?;
        }
        Ok(())
    }
}

/// A folder itself, or the one that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(path),
    }
}

/// Numbers that the kernel's documentation fixes (admin-guide/devices.txt).
fn device_number(name: &str) -> io::Result<u64> {
    match name {
        "null" => Ok(rustix::fs::makedev(1, 3)),
        "kvm" => Ok(rustix::fs::makedev(10, 232)),
        _ => Err(io::Error::other(format!("no device is called {name}"))),
    }
}

/// Of the processes only, of which it sees itself alone.
fn mount_proc() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "proc", "proc", flags, c"subset=pid")?)
}

/// A place of the host, taken before the root changes.
struct Copy {
    path: PathBuf,
    is_folder: bool,
    tree: OwnedFd,
}

impl Copy {
    fn of(path: &Path, attributes: u64) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        let taken = || {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, path, flags)?;
            set_attributes(tree.as_fd(), "", attributes, libc::AT_EMPTY_PATH)?;
            Ok(Self { path: path.to_owned(), is_folder: fs::metadata(path)?.is_dir(), tree })
        };
        taken().map_err(named)
    }

    /// At the same path below the current folder.
    fn attach(&self) -> io::Result<()> {
        let target = self.path.strip_prefix("/").unwrap_or(&self.path);
        if self.is_folder {
            fs::create_dir_all(target)?;
        } else {
            target.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::File::create(target)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&self.tree, "", CWD, target, flags)?)
    }
}

const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEVICES: u64 = 0x4;
const NO_EXEC: u64 = 0x8;
const SEALED: u64 = READ_ONLY | NO_SUID | NO_DEVICES;
const UNSEALED: u64 = NO_SUID | NO_DEVICES | NO_EXEC;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Adds to a mount's attributes, whatever it has already: those of the host may not be taken away in
/// a user namespace.
fn set_attributes(at: BorrowedFd<'_>, path: &str, set: u64, flags: libc::c_int) -> io::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let path = CString::new(path.as_bytes())?;
    // SAFETY: path and attributes live until the call returns; the size is the structure's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
