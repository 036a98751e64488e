//! The two traits: a driver that starts machines, and a machine that runs.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::jail::{JailError, Standing};
use crate::{Exit, Identity, Link, LinkError, Machine, Process, ProcessError};

/// One VMM on this host.
#[async_trait]
pub trait Driver: Send + Sync {
    /// `qemu`, `firecracker` or `fake`; also what [`Saved::driver`] holds.
    fn name(&self) -> &'static str;

    /// The VMM's own version, such as `7.2.22`.
    fn version(&self) -> &str;

    /// What runs the guest's instructions: `kvm`, `tcg` or `none`.
    fn accelerator(&self) -> &'static str;

    /// What the user should know about this VMM, if anything: a plain clause.
    fn caveat(&self) -> Option<String> {
        None
    }

    fn capabilities(&self) -> Capabilities;

    /// Starts the machine. On `Ok` the VMM has taken the whole configuration and the guest runs;
    /// nothing is known about the guest yet. On `Err` no process is left.
    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError>;

    /// Takes back a machine that an earlier process started. [`VmmError::Gone`] when it has ended,
    /// also when its pid now belongs to another process.
    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError>;

    /// Starts what [`Running::suspend`] has left in a folder: a machine that is paused where that one was;
    /// [`Running::resume`] has it go on. It must be asked for as that one was. What is in the folder is of no use to
    /// another, and the folder may go afterwards.
    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        let _ = (machine, folder);
        Err(VmmError::Unable { vmm: self.name().to_owned() })
    }

    /// Opens what [`Running::save`] has left in a folder, to be cloned. The folder may go afterwards; that it is as it
    /// was left is the caller's to know. [`VmmError::Unable`] of a driver without [`Capabilities::snapshot`].
    async fn load(&self, folder: &Path) -> Result<Arc<dyn Template>, VmmError> {
        let _ = folder;
        Err(VmmError::Unable { vmm: self.name().to_owned() })
    }
}

/// A machine that was saved, and can go on many times over. Clones share the memory that none of them has changed.
#[async_trait]
pub trait Template: Send + Sync {
    /// Starts a machine that is paused where the saved one was; [`Running::resume`] has it go on. It must have been
    /// asked for alike: only its name, its folders and its ports may differ. What is around it is as around a machine
    /// that was started.
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError>;

    /// [`Driver::wake`] for a machine that was suspended [from](Running::suspend) this template, or from an equal one.
    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError>;
}

/// A machine that runs. Dropping it does not stop it.
#[async_trait]
pub trait Running: Send + Sync {
    fn saved(&self) -> Saved;

    fn process(&self) -> &Process;

    /// Connects to the guest's agent; waits for a guest that still boots. A machine has one link at
    /// a time: while another is open this waits, and fails with [`LinkError::Busy`] at the
    /// deadline.
    async fn connect(&self, deadline: Duration) -> Result<Link, LinkError>;

    /// Stops the guest's processors; memory, devices and link stay.
    async fn pause(&self) -> Result<(), VmmError>;

    async fn resume(&self) -> Result<(), VmmError>;

    /// Writes down what it takes to clone the machine, in a folder that exists and is empty. Only of one that was
    /// [started](Driver::start) by this process, and whose link is down; it is paused then, and of no further use.
    async fn save(&self, folder: &Path) -> Result<(), VmmError> {
        let _ = folder;
        Err(VmmError::Unable { vmm: self.saved().driver })
    }

    /// Writes down what it takes for this machine, and no other, to go on later, in a folder that exists and is empty:
    /// [`Driver::wake`] does it. Only while its link is down. It is paused then, and of no further use; on `Err` it is
    /// paused and may be resumed.
    ///
    /// What is in the template of that folder is left out, and [`Template::wake`] does it: what [`save`](Self::save) has
    /// left there of a machine with as much memory. The more they have in common, the less is written.
    async fn suspend(&self, folder: &Path, from: Option<&Path>) -> Result<(), VmmError> {
        let _ = (folder, from);
        Err(VmmError::Unable { vmm: self.saved().driver })
    }

    /// Waits for the VMM's end. [`Exit::Unknown`] for an adopted machine.
    async fn exited(&self) -> Exit {
        self.process().exited().await
    }

    /// Asks the VMM to end (SIGTERM). The guest is not asked: that is the agent's part.
    fn terminate(&self) -> Result<(), ProcessError> {
        self.process().terminate()
    }

    /// Ends the VMM at once (SIGKILL).
    fn kill(&self) -> Result<(), ProcessError> {
        self.process().kill()
    }

    /// The same, and waits until it has ended.
    async fn end(&self) {
        // Fails only when the process has already ended, which is what is wanted.
        let _ = self.kill();
        self.exited().await;
    }
}

/// What a driver can do beyond starting and stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    pub snapshot: bool,
    pub balloon: bool,
    pub pause: bool,
    /// Disk and link throughput can be limited.
    pub limits: bool,
}

/// What is written down about a running machine, so that it can be adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Name of the driver that started it.
    pub driver: String,
    pub id: String,
    pub process: Identity,
    pub dir: PathBuf,
    #[serde(default)]
    pub logs: PathBuf,
    /// Of the guest; 0 where it was not written down.
    #[serde(default)]
    pub memory_bytes: u64,
    pub guest_ports: Vec<u32>,
    /// What is around the VMM, as seen when it had started.
    #[serde(default)]
    pub jail: Vec<Standing>,
}

/// Why a VMM could not be started, found again or controlled.
#[derive(Debug, Error)]
pub enum VmmError {
    #[error("run {}", program.display())]
    Spawn { program: PathBuf, source: std::io::Error },
    /// It was not started, since not everything that must be around it could be put on.
    #[error("jail {}", program.display())]
    Jail { program: PathBuf, source: JailError },
    /// Ended before the machine ran, or refused a part of its configuration. `reason` is its own
    /// last word.
    #[error("start {vmm}: {reason}")]
    Refused { vmm: &'static str, reason: String },
    #[error("start {vmm}: no answer on its control socket within {seconds} s")]
    Silent { vmm: &'static str, seconds: u64 },
    /// It stopped answering on its control socket.
    #[error("control {vmm}: {reason}")]
    Control { vmm: &'static str, reason: String },
    #[error("save or clone a machine of {vmm}: this driver has no snapshots")]
    Unable { vmm: String },
    #[error("{act} {}", path.display())]
    File { act: &'static str, path: PathBuf, source: std::io::Error },
    #[error("set up guest memory of {mib} MiB")]
    Memory { mib: u32, source: std::io::Error },
    #[error("use run directory {}: its path has {length} bytes, sockets in it allow {limit}", dir.display())]
    PathTooLong { dir: PathBuf, length: usize, limit: usize },
    #[error("read the version of {}: it says '{said}'", program.display())]
    Version { program: PathBuf, said: String },
    #[error("adopt machine {id}: process {pid} has ended")]
    Gone { id: String, pid: u32 },
    #[error("adopt machine {id}: it was started by driver {theirs}, this one is {ours}")]
    OtherDriver { id: String, theirs: String, ours: &'static str },
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl VmmError {
    /// Whether it is for want of disk, which there may be another time.
    pub fn is_for_disk(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == ErrorKind::StorageFull)
    }
}

/// How long a VMM may take to answer once it runs. One that saves its guest writes all of its memory first.
const CONTROL_DEADLINE: Duration = Duration::from_secs(60);

/// What comes of something that a VMM is asked to do.
pub(crate) async fn controlled<E: Display>(
    vmm: &'static str,
    asked: impl Future<Output = Result<(), E>>,
) -> Result<(), VmmError> {
    let reason = match tokio::time::timeout(CONTROL_DEADLINE, asked).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONTROL_DEADLINE.as_secs()),
    };
    Err(VmmError::Control { vmm, reason })
}

impl Saved {
    pub(crate) fn new(
        driver: &str,
        machine: &Machine,
        process: &Process,
        jail: Vec<Standing>,
    ) -> Self {
        Self {
            driver: driver.to_owned(),
            id: machine.id.clone(),
            process: process.identity(),
            dir: machine.dir.clone(),
            logs: machine.logs.clone(),
            memory_bytes: machine.resources.memory_bytes(),
            guest_ports: machine.guest_ports.clone(),
            jail,
        }
    }

    pub(crate) fn check_driver(&self, ours: &'static str) -> Result<(), VmmError> {
        if self.driver == ours {
            return Ok(());
        }
        Err(VmmError::OtherDriver { id: self.id.clone(), theirs: self.driver.clone(), ours })
    }

    pub(crate) fn find_process(&self) -> Result<Process, VmmError> {
        Process::find(self.process).map_err(|error| match error {
            ProcessError::Gone { .. } => self.gone(),
            error => error.into(),
        })
    }

    pub(crate) fn gone(&self) -> VmmError {
        VmmError::Gone { id: self.id.clone(), pid: self.process.pid }
    }
}
