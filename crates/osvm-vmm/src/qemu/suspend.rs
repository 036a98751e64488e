//! Where a suspended machine is written to, which QEMU has as one stream of memory and devices.
//!
//! It goes through a pipe, since QEMU itself may write no file of that size.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::VmmError;
use crate::snapshot::new_file;

/// A file that is being written, until nobody holds the other end of its pipe.
pub(super) struct Written {
    path: PathBuf,
    written: JoinHandle<io::Result<()>>,
}

impl Written {
    pub(super) fn to(path: &Path) -> Result<(OwnedFd, Self), VmmError> {
        let mut file = new_file(path)?;
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (from, to) = pipe.map_err(|errno| failed(path, errno.into()))?;
        let written = spawn_blocking(move || io::copy(&mut File::from(from), &mut file).map(drop));
        Ok((to, Self { path: path.to_owned(), written }))
    }

    pub(super) async fn end(self) -> Result<(), VmmError> {
        let written = self.written.await.map_err(io::Error::from).flatten();
        written.map_err(|source| failed(&self.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> VmmError {
    VmmError::File { act: "write a suspended machine to", path: path.to_owned(), source }
}
