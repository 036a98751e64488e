//! A saved machine, as QEMU has it: its memory, which was in a file all the time, and the state of its devices.
//!
//! A clone's balloon would punch holes in a file that its siblings see, and QEMU opens the file for writing: hence the sealed
//! copy. A machine that was saved is never resumed, since it would go on writing to what was saved.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use async_trait::async_trait;

use super::migrate::{self, Memory};
use super::qmp::{Qmp, QmpError};
use super::{Body, Qemu};
use crate::process::inherited;
use crate::snapshot::Snapshot;
use crate::{Machine, Running, Template, VmmError};

pub(super) struct QemuTemplate {
    pub(super) qemu: Qemu,
    pub(super) snapshot: Snapshot,
}

/// Has a paused machine write the state of its devices: its memory is in a file as it is.
pub(super) async fn save_state(qmp: &mut Qmp, state: &File) -> Result<(), QmpError> {
    migrate::write(qmp, state.as_fd(), Memory::Stays).await
}

/// Has a machine that waits for it read it from a descriptor that it has inherited.
pub(super) async fn restore_state(qmp: &mut Qmp, state: RawFd) -> Result<(), QmpError> {
    migrate::read(qmp, state, Memory::Stays).await
}

impl QemuTemplate {
    /// Opened anew, since QEMU reads it from where it stands.
    fn body(&self) -> std::io::Result<Body> {
        let state = File::open(inherited(self.snapshot.state.as_raw_fd()))?;
        let memory = self.snapshot.memory.try_clone()?;
        Ok(Body { memory: Some(memory), state: Some(OwnedFd::from(state)) })
    }
}

#[async_trait]
impl Template for QemuTemplate {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let body = self.body().map_err(|source| super::no_memory(machine, source))?;
        Ok(Box::new(self.qemu.launch(machine, body).await?))
    }
}
