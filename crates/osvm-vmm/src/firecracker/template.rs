//! A saved machine, as Firecracker has it: a full snapshot. It remembers its vsock's socket and its disk by names in its
//! workplace, under which each clone has its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use async_trait::async_trait;

use super::{Body, Firecracker};
use crate::changes;
use crate::snapshot::Snapshot;
use crate::{Machine, Running, Template, VmmError};

pub(super) struct FirecrackerTemplate {
    pub(super) firecracker: Firecracker,
    pub(super) snapshot: Snapshot,
}

impl FirecrackerTemplate {
    /// Both are opened again by their names.
    fn body(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.snapshot.memory.try_clone()?, self.snapshot.state.try_clone()?])
    }
}

#[async_trait]
impl Template for FirecrackerTemplate {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let [memory, state] = self
            .body()
            .map_err(|source| VmmError::Memory { mib: machine.resources.memory_mib(), source })?;
        self.firecracker.launch(machine, Body::Snapshot { memory, state }).await
    }

    /// It maps one file: what was left out is put in again.
    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        changes::make_whole(folder, self.snapshot.memory.as_fd()).await?;
        self.firecracker.wake_whole(machine, folder).await
    }
}
