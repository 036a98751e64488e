//! A disk that is soon full.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// Mounted for as long as it lives.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of that size, as tmpfs takes it, at a folder that is made. Nothing, and said so, where that needs root.
    pub(crate) fn at(folder: &Path, size: &str) -> Option<Self> {
        DirBuilder::new().mode(0o700).create(folder).unwrap();
        let options = options(size);
        match mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(&*options)) {
            Ok(()) => Some(Self(fs::canonicalize(folder).unwrap())),
            Err(_) => {
                eprintln!("skipped: mounting a small disk needs root");
                None
            }
        }
    }

    pub(crate) fn grow(&self, size: &str) {
        mount_remount(&self.0, MountFlags::empty(), &*options(size)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file of it open keeps that.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn options(size: &str) -> CString {
    CString::new(format!("size={size},mode=700")).unwrap()
}
