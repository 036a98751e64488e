//! The part of the fuzzing crate's door that leads to layers.

use std::fs::File;
use std::path::Path;

use super::merge::{Layer, Merged, Rootfs};
use super::{Limits, OciError, Spool};
use crate::disk;

/// The disk of layers, each of them an archive, in a limited image. `folder` is for what is needed meanwhile.
pub fn layers(layers: &[&[u8]], folder: &Path, out: &mut File) -> Result<(), OciError> {
    let limits = Limits { bytes: 4 << 20, entries: 1000, memory: 1 << 20, ..Limits::default() };
    let mut spool = Spool::new(folder)?;
    let mut merged = Merged::new(limits);
    for bytes in layers {
        spool.align()?;
        let start = spool.end();
        spool.put(bytes)?;
        let range = start..spool.end();
        merged.add(&Layer { name: "layer", spool: &spool, range })?;
    }
    Ok(disk::write(&Rootfs::new(merged, &spool), out)?)
}
