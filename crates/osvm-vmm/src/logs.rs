//! The files a VMM writes, and what they say about a start that failed.

mod capped;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

pub use capped::CappedLog;

use crate::VmmError;

/// What the guest's serial console said.
pub(crate) const CONSOLE: &str = "console.log";
/// What the VMM itself said.
pub(crate) const VMM: &str = "vmm.log";
/// What the VMM counted: a line of JSON each minute and at its end.
pub(crate) const METRICS: &str = "metrics.log";

/// Opens a log for appending.
pub(crate) fn create(path: &Path) -> Result<File, VmmError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|source| VmmError::File {
        act: "create",
        path: path.to_owned(),
        source,
    })
}

/// The last line of a log that holds anything, or `None`.
pub(crate) fn last_line(path: &Path) -> Option<String> {
    const TAIL: u64 = 4096;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    tail.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}
