//! A door for the fuzzing crate to readers that no public item reaches. No part of the interface.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::config::{CONFIG_FILE, Config, MAX_BYTES};
use crate::cpio::{self, CpioError};
use crate::decompress;
use crate::disk::{self, DiskError, Folder};
pub use crate::kernel::fuzz::{kernel, module, package};
pub use crate::oci::fuzz::layers;

/// One plain stream out of archives, and the configuration among them.
pub fn plain(bytes: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), CpioError> {
    let mut out = Vec::new();
    let found = cpio::plain(bytes, &mut out, CONFIG_FILE, MAX_BYTES)?;
    Ok((out, found))
}

pub fn decompress(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    decompress::decompress_bounded(bytes, limit)
}

/// Its command, if it is an image's configuration.
pub fn config(bytes: &[u8]) -> Option<Vec<String>> {
    let config = Config::parse(bytes).ok()?;
    let _ = (config.env(), config.user(), config.working_dir());
    Some(config.command())
}

/// The disk of a folder.
pub fn disk(folder: &Path, out: &mut File) -> Result<(), DiskError> {
    disk::write(&Folder::scan(folder)?, out)
}
