//! Where a suspended machine is written to, which QEMU has as one stream of memory and devices.
//!
//! It goes through a pipe, since QEMU itself may write no file of that size; and what a template has is left out there.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::task::{JoinHandle, spawn_blocking};

use super::stream::copy_changes;
use crate::VmmError;
use crate::changes::CHANGES;
use crate::snapshot::{CHUNK, MEMORY, STATE, new_file};

/// In the folder. What is not whole is of use with its template alone, and so is not found without it.
pub(super) fn name(is_of_template: bool) -> &'static str {
    if is_of_template { CHANGES } else { STATE }
}

/// A file that is being written, until nobody holds the other end of its pipe.
pub(super) struct Written {
    path: PathBuf,
    written: JoinHandle<io::Result<()>>,
}

impl Written {
    /// In a folder, without what is in the memory of a template, if there is one.
    pub(super) fn to(folder: &Path, template: Option<&Path>) -> Result<(OwnedFd, Self), VmmError> {
        let path = folder.join(name(template.is_some()));
        let mut file = new_file(&path)?;
        let template = template.map(|template| File::open(template.join(MEMORY))).transpose();
        let template = template.map_err(|source| failed(&path, source))?;
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (from, to) = pipe.map_err(|errno| failed(&path, errno.into()))?;
        // The larger it is, the less often one waits for the other.
        let _ = fcntl_setpipe_size(&from, CHUNK);
        let mut from = File::from(from);
        let written = spawn_blocking(move || match template {
            None => io::copy(&mut from, &mut file).map(drop),
            Some(template) => copy_changes(
                BufReader::with_capacity(CHUNK, from),
                BufWriter::with_capacity(CHUNK, file),
                &template,
            ),
        });
        Ok((to, Self { path, written }))
    }

    pub(super) async fn end(self) -> Result<(), VmmError> {
        let written = self.written.await.map_err(io::Error::from).flatten();
        written.map_err(|source| failed(&self.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> VmmError {
    VmmError::File { act: "write a suspended machine to", path: path.to_owned(), source }
}
