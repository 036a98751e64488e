//! Folders that are to be gone.

use std::fs;
use std::io;
use std::path::Path;

/// One that is not there is gone already.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
