//! A saved machine, as QEMU has it: its memory, which was in a file all the time, and the state of its devices.
//!
//! A clone's balloon would punch holes in a file that its siblings see, and QEMU opens the file for writing: hence the sealed
//! copy. A machine that was saved is never resumed, since it would go on writing to what was saved.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use async_trait::async_trait;

use super::migrate::Memory;
use super::{Body, Qemu};
use crate::process::inherited;
use crate::snapshot::Snapshot;
use crate::{Machine, Running, Template, VmmError};

pub(super) struct QemuTemplate {
    pub(super) qemu: Qemu,
    pub(super) snapshot: Snapshot,
}

impl QemuTemplate {
    /// Opened anew, since QEMU reads it from where it stands.
    fn body(&self) -> std::io::Result<Body> {
        let state = File::open(inherited(self.snapshot.state.as_raw_fd()))?;
        let memory = self.snapshot.memory.try_clone()?;
        Ok(Body { memory: Some(memory), state: Some((state.into(), Memory::Stays)) })
    }
}

#[async_trait]
impl Template for QemuTemplate {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let body = self.body().map_err(|source| super::no_memory(machine, source))?;
        Ok(Box::new(self.qemu.launch(machine, body).await?))
    }

    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        let memory = self.snapshot.memory.try_clone();
        let memory = memory.map_err(|source| super::no_memory(machine, source))?;
        Ok(Box::new(self.qemu.wake_on(Some(memory), machine, folder).await?))
    }
}
