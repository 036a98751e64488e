//! The readers of this folder, from memory, for the fuzzing crate.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use super::bzimage::BzImage;
use super::elf::Elf;
use super::{PackageError, inspect, modules, package as debian};

/// Reads a kernel as `inspect` does, in whatever format.
pub fn kernel(bytes: &[u8]) {
    if let Ok(mut elf) = Elf::open(Cursor::new(bytes)) {
        let _ = elf.check_kernel();
    }
    if let Ok(image) = BzImage::new(bytes) {
        let _ = (image.version(), image.vmlinux());
    }
    let _ = inspect::version(bytes);
}

/// Reads what a kernel module says of itself.
pub fn module(bytes: &[u8]) {
    modules::info(bytes);
}

/// Where the files of a package that are wanted would go, below `into`.
pub fn package(bytes: &[u8], into: &Path) -> Result<Vec<PathBuf>, PackageError> {
    let mut targets = Vec::new();
    debian::each(bytes, &mut |name, content, size| {
        let Some(target) = debian::target(name, into) else { return Ok(()) };
        debian::check_size(name, size)?;
        io::copy(&mut content.take(size), &mut io::sink()).map_err(PackageError::Read)?;
        targets.push(target);
        Ok(())
    })?;
    Ok(targets)
}
