//! A saved machine: its memory, a file that all clones map for themselves, and the state of its devices.
//!
//! Clones map a sealed copy of the memory, made when the template is loaded: a clone's balloon would punch holes in a
//! file that its siblings see, and QEMU opens the file for writing. A machine that was saved is never resumed, since it
//! would go on writing to what was saved.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::qmp::{Qmp, QmpError};
use super::{Body, LOG_LIMIT, Qemu, memory};
use crate::{Machine, Running, Template, VmmError};

/// In a template's folder.
pub(super) const STATE: &str = "state";
const MEMORY: &str = "memory";

/// QEMU's name for the file that it writes to.
const LENT: &str = "state";
/// How often it is asked whether it is done.
const ASKED_EVERY: Duration = Duration::from_millis(1);

pub(super) struct QemuTemplate {
    qemu: Qemu,
    /// Sealed.
    memory: OwnedFd,
    state: Vec<u8>,
}

pub(super) fn create(path: &Path) -> Result<File, VmmError> {
    File::create_new(path).map_err(|source| failed("write a saved machine to", path, source))
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

pub(super) async fn save_memory(memory: &OwnedFd, folder: &Path) -> Result<(), VmmError> {
    let path = folder.join(MEMORY);
    let from = memory.try_clone();
    blocking("write a saved machine to", path, move |path| {
        memory::copy(&from?.into(), &File::create_new(path)?)
    })
    .await
}

impl QemuTemplate {
    pub(super) async fn load(qemu: Qemu, folder: &Path) -> Result<Self, VmmError> {
        const ACT: &str = "read a saved machine from";
        let state = blocking(ACT, folder.join(STATE), |path| {
            let mut state = Vec::new();
            // QEMU could not have written more.
            File::open(path)?.take(LOG_LIMIT).read_to_end(&mut state)?;
            Ok(state)
        });
        let memory = blocking(ACT, folder.join(MEMORY), |path| {
            let saved = File::open(path)?;
            let memory = File::from(memory::create(0)?);
            memory::copy(&saved, &memory)?;
            let memory = memory.into();
            memory::seal(&memory)?;
            Ok(memory)
        });
        Ok(Self { qemu, memory: memory.await?, state: state.await? })
    }

    /// Which QEMU reads from its start.
    fn state(&self) -> io::Result<OwnedFd> {
        let state = File::from(memory::create(0)?);
        state.write_all_at(&self.state, 0)?;
        Ok(state.into())
    }
}

#[async_trait]
impl Template for QemuTemplate {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let body = || Ok(Body { memory: self.memory.try_clone()?, state: Some(self.state()?) });
        let body = body().map_err(|source| super::no_memory(machine, source))?;
        Ok(Box::new(self.qemu.launch(machine, body).await?))
    }
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> VmmError {
    VmmError::File { act, path: path.to_owned(), source }
}

async fn blocking<T: Send + 'static>(
    act: &'static str,
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, VmmError> {
    let done = spawn_blocking(move || work(&path).map_err(|source| failed(act, &path, source)));
    done.await.map_err(|error| failed(act, Path::new(MEMORY), error.into()))?
}
