//! A suspended machine, as QEMU has it: one stream of memory and devices.
//!
//! It goes through a pipe, since QEMU itself may write no file of that size.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::task::{JoinHandle, spawn_blocking};

use super::migrate::{self, Memory};
use super::qmp::{Qmp, QmpError};
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

/// Has a paused machine write all that it is.
pub(super) async fn write(qmp: &mut Qmp, to: OwnedFd) -> Result<(), QmpError> {
    migrate::write(qmp, to.as_fd(), Memory::Moves).await
}

/// Has a machine that waits for it read that from a descriptor that it has inherited.
pub(super) async fn read(qmp: &mut Qmp, from: RawFd) -> Result<(), QmpError> {
    migrate::read(qmp, from, Memory::Moves).await
}
