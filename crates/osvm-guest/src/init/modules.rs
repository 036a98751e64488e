//! The kernel's modules, where it needs any: `NN-name.ko`, loaded in the order of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::InitError;
use crate::console::say;

/// Loads what is in `folder`. A module that fails is reported and skipped: whether it was needed shows when
/// its device does not appear.
pub(super) fn load(folder: &Path) -> Result<(), InitError> {
    for module in list(folder).map_err(InitError::act("list the kernel's modules"))? {
        if let Err(errno) = load_one(&module) {
            say(format_args!("failed to load {}: {errno}", module.display()));
        }
    }
    Ok(())
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let files = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut modules = files.collect::<io::Result<Vec<_>>>()?;
    modules.retain(|module| module.extension().is_some_and(|extension| extension == "ko"));
    modules.sort();
    Ok(modules)
}

fn load_one(module: &Path) -> Result<(), Errno> {
    let file = open(module, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::system::finit_module(file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10-vsock.ko", "02-virtio_ring.ko", "readme", "01-virtio.ko"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = ["01-virtio.ko", "02-virtio_ring.ko", "10-vsock.ko"];
        assert_eq!(list(dir.path()).unwrap(), names.map(|name| dir.path().join(name)));
    }

    #[test]
    fn a_kernel_without_modules_needs_no_folder() {
        assert_eq!(list(Path::new("/no/such/folder")).unwrap(), Vec::<PathBuf>::new());
    }
}
