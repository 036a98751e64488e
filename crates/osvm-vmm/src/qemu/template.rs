//! A saved machine, as QEMU has it: its memory, which was in a file all the time, and the state of its devices.
//!
//! A clone's balloon would punch holes in a file that its siblings see, and QEMU opens the file for writing: hence the sealed
//! copy. A machine that was saved is never resumed, since it would go on writing to what was saved.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::qmp::{Qmp, QmpError};
use super::{Body, Qemu};
use crate::process::inherited;
use crate::snapshot::Snapshot;
use crate::{Machine, Running, Template, VmmError};

/// QEMU's name for the file that it writes to.
const LENT: &str = "state";
/// How often it is asked whether it is done.
const ASKED_EVERY: Duration = Duration::from_millis(1);

pub(super) struct QemuTemplate {
    pub(super) qemu: Qemu,
    pub(super) snapshot: Snapshot,
}

/// Has a paused machine write the state of its devices.
pub(super) async fn save_state(qmp: &mut Qmp, state: &File) -> Result<(), QmpError> {
    qmp.lend(LENT, state.as_fd()).await?;
    move_state(qmp, ("migrate", &format!("fd:{LENT}"))).await
}

/// Has a machine that waits for it read it from a descriptor that it has inherited.
pub(super) async fn restore_state(qmp: &mut Qmp, state: RawFd) -> Result<(), QmpError> {
    move_state(qmp, ("migrate-incoming", &format!("fd:{state}"))).await
}

/// What is moved is the state alone: memory that is shared stays where it is.
async fn move_state(qmp: &mut Qmp, (command, uri): (&str, &str)) -> Result<(), QmpError> {
    let stays = json!([{ "capability": "x-ignore-shared", "state": true }]);
    qmp.execute_with("migrate-set-capabilities", &json!({ "capabilities": stays })).await?;
    qmp.execute_with(command, &json!({ "uri": uri })).await?;
    loop {
        let progress = qmp.execute("query-migrate").await?;
        match progress["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = progress["error-desc"].as_str().unwrap_or("it does not say why");
                return Err(QmpError::Refused(format!("{command}: {why}")));
            }
            _ => tokio::time::sleep(ASKED_EVERY).await,
        }
    }
}

impl QemuTemplate {
    /// Opened anew, since QEMU reads it from where it stands.
    fn body(&self) -> std::io::Result<Body> {
        let state = File::open(inherited(self.snapshot.state.as_raw_fd()))?;
        Ok(Body { memory: self.snapshot.memory.try_clone()?, state: Some(OwnedFd::from(state)) })
    }
}

#[async_trait]
impl Template for QemuTemplate {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let body = self.body().map_err(|source| super::no_memory(machine, source))?;
        Ok(Box::new(self.qemu.launch(machine, body).await?))
    }
}
