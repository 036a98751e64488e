//! Firecracker: configured over its API socket, linked by virtio-vsock. Needs KVM.
//!
//! Its working directory is the machine's run directory, and the vsock's socket is named relative
//! to it: a snapshot remembers that name, and each of its clones must find a socket of its own
//! under it.

pub(crate) mod api;
mod config;
mod half;
pub mod release;
mod voice;
pub(crate) mod vsock;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::jail::{Access, Calls, Cell, Jail, Lent, Needs, Standing};
use crate::link::Place;
use crate::machine::open_input;
use crate::process::{KillGuard, Spawn};
use crate::{
    Capabilities, Driver, Link, LinkError, Machine, Process, Running, Saved, VmmError, logs,
};
use api::{Api, ApiError};
use config::Request;
use voice::Voice;

const NAME: &str = "firecracker";

/// In the run directory.
const API_SOCKET: &str = "api.sock";

/// Before this version a guest that was paused and resumed takes no new streams.
const PAUSE_SINCE: (u32, u32) = (1, 17);

/// The versions that the project's own tests run.
pub const TESTED: &[(u32, u32)] = &[(1, 16)];

/// How long Firecracker may take to open its API socket, load kernel and initramfs, and start.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long it may take to answer a request once it runs.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// A `firecracker` on this host.
#[derive(Debug, Clone)]
pub struct Firecracker {
    program: PathBuf,
    version: String,
    /// `None` for root, for whom it is not jailed yet.
    jail: Option<(Jail, Needs)>,
}

impl Firecracker {
    /// Runs the program for its version and its libraries.
    pub async fn open(program: &Path, jail: &Jail) -> Result<Self, VmmError> {
        let bare = Self::bare(program).await?;
        if rustix::process::geteuid().is_root() {
            return Ok(bare);
        }
        let error = |source| VmmError::Spawn { program: program.to_owned(), source };
        let path = program.to_owned();
        let needs = tokio::task::spawn_blocking(move || Needs::of(&path, &[])).await;
        let needs = needs.map_err(|join| error(join.into()))?.map_err(error)?;
        Ok(Self { jail: Some((jail.clone(), needs)), ..bare })
    }

    async fn bare(program: &Path) -> Result<Self, VmmError> {
        let version = crate::process::version(program, "Firecracker v").await?;
        Ok(Self { program: program.to_owned(), version, jail: None })
    }

    /// Files keep their names in the jail, and it works in the machine's folder.
    fn cell(&self, machine: &Machine, needs: &Needs) -> Cell {
        let files = [&machine.kernel.path, &machine.initramfs].into_iter().chain(&machine.disk);
        Cell {
            id: machine.id.clone(),
            calls: Calls::Firecracker,
            file_size: None,
            needs: needs.clone(),
            lent: files.map(|path| Lent::path(path, Access::Read)).collect(),
            devices: vec!["kvm".to_owned(), "null".to_owned()],
            folder: Some(machine.dir.clone()),
            // One that is linked with glibc has none inside.
            must_filter: false,
        }
    }

    fn look(&self, machine: &Machine, process: &Process) -> Result<Vec<Standing>, VmmError> {
        let Some((jail, needs)) = &self.jail else { return Ok(Vec::new()) };
        let seen = jail.look(process.pid(), &self.cell(machine, needs));
        seen.map_err(|source| VmmError::Jail { program: self.program.clone(), source })
    }

    async fn spawn(&self, machine: &Machine) -> Result<KillGuard, VmmError> {
        let log = machine.logs.join(logs::VMM);
        let mut spawn = Spawn::new(&self.program, &machine.dir);
        spawn.args(["--api-sock", API_SOCKET, "--id", &machine.id]);
        spawn.args(["--level", "Error", "--log-path", voice::LOG_PIPE]);
        spawn.args(["--metrics-path", voice::METRICS_PIPE]);
        let log = logs::create(&log)?;
        match &self.jail {
            Some((jail, needs)) => spawn.start_in(jail, &self.cell(machine, needs), log).await,
            None => spawn.start(log),
        }
    }
}

#[async_trait]
impl Driver for Firecracker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn accelerator(&self) -> &'static str {
        "kvm"
    }

    fn caveat(&self) -> Option<String> {
        config::untested(&self.version)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: config::is_since(&self.version, PAUSE_SINCE),
            balloon: config::has_reports(&self.version),
            ..Capabilities::default()
        }
    }

    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        machine.check_dir()?;
        check_input(machine)?;
        let requests = config::requests(machine, &self.version)?;
        Voice::make(&machine.dir)?;
        let process = self.spawn(machine).await?;
        let voice = Voice::listen(&machine.dir, &machine.logs, &process)?;
        let configured = configure(&process, &machine.dir, &requests);
        match tokio::time::timeout(START_DEADLINE, configured).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refusal(process, voice, &machine.logs, error).await),
            Err(_) => {
                return Err(VmmError::Silent { vmm: NAME, seconds: START_DEADLINE.as_secs() });
            }
        }
        let jail = self.look(machine, &process)?;
        let process = process.release();
        let saved = Saved::new(NAME, machine, &process, jail);
        let place = Place::default();
        Ok(Box::new(FirecrackerMachine { saved, process, place, _voice: Some(voice) }))
    }

    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError> {
        saved.check_driver(NAME)?;
        let process = saved.find_process()?;
        // A machine is worth more than its log.
        let voice = Voice::listen(&saved.dir, &saved.logs, &process)
            .inspect_err(|error| tracing::warn!(%error, "log of an adopted VMM"));
        let (saved, place) = (saved.clone(), Place::default());
        Ok(Box::new(FirecrackerMachine { saved, process, place, _voice: voice.ok() }))
    }
}

/// Firecracker opens its files by name; what can't be opened is named better here than there.
fn check_input(machine: &Machine) -> Result<(), VmmError> {
    open_input("open kernel", &machine.kernel.path)?;
    open_input("open initramfs", &machine.initramfs)?;
    machine.disk.iter().try_for_each(|disk| open_input("open root disk", disk).map(drop))
}

async fn configure(process: &Process, dir: &Path, requests: &[Request]) -> Result<(), ApiError> {
    let socket = dir.join(API_SOCKET);
    let mut api = tokio::select! {
        api = Api::wait(&socket) => api?,
        _ = process.exited() => return Err(ApiError::Ended),
    };
    for request in requests {
        api.put(request.path, &request.body).await?;
    }
    Ok(())
}

/// Why Firecracker did not take the machine: what its API said, or else its last words.
async fn refusal(process: KillGuard, voice: Voice, logs: &Path, error: ApiError) -> VmmError {
    let reason = match error {
        ApiError::Refused(reason) | ApiError::Socket(reason) => reason,
        ApiError::Ended => {
            let exit = process.end().await;
            voice.finish().await;
            let said = logs::last_line(&logs.join(logs::VMM));
            said.unwrap_or_else(|| format!("it ended with {exit} and said nothing"))
        }
    };
    VmmError::Refused { vmm: NAME, reason }
}

struct FirecrackerMachine {
    saved: Saved,
    process: Process,
    place: Place,
    /// Listens for as long as the machine is held.
    _voice: Option<Voice>,
}

#[async_trait]
impl Running for FirecrackerMachine {
    fn saved(&self) -> Saved {
        self.saved.clone()
    }

    fn process(&self) -> &Process {
        &self.process
    }

    async fn connect(&self, deadline: Duration) -> Result<Link, LinkError> {
        let (saved, process) = (&self.saved, &self.process);
        let connect = |place| vsock::connect(&saved.dir, &saved.guest_ports, process, place);
        self.place.connect(deadline, connect).await
    }

    async fn pause(&self) -> Result<(), VmmError> {
        self.set_state("Paused").await
    }

    async fn resume(&self) -> Result<(), VmmError> {
        self.set_state("Resumed").await
    }
}

impl FirecrackerMachine {
    async fn set_state(&self, state: &str) -> Result<(), VmmError> {
        let socket = self.saved.dir.join(API_SOCKET);
        let body = serde_json::json!({ "state": state });
        let answer = async { Api::connect(&socket).await?.patch("/vm", &body).await };
        match tokio::time::timeout(CONTROL_DEADLINE, answer).await {
            Ok(answer) => {
                answer.map_err(|error| VmmError::Control { vmm: NAME, reason: error.to_string() })
            }
            Err(_) => {
                let reason = format!("no answer within {} s", CONTROL_DEADLINE.as_secs());
                Err(VmmError::Control { vmm: NAME, reason })
            }
        }
    }
}

#[cfg(test)]
mod tests;
