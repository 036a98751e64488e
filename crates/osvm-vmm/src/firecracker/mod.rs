//! Firecracker: configured over its API socket, linked by virtio-vsock. Needs KVM.
//!
//! It works in a folder inside the machine's run directory, and the vsock's socket is named relative
//! to it: a snapshot remembers that name, and each of its clones must find a socket of its own
//! under it.
//!
//! It is jailed by the shim, as QEMU is, and not by Firecracker's `jailer`: the shim does what that
//! does and more (Landlock, our own filter), also for an ordinary user, and takes a Firecracker that
//! is linked dynamically, too.

pub(crate) mod api;
mod config;
mod filter;
mod half;
pub mod release;
mod template;
mod voice;
pub(crate) mod vsock;
mod workplace;

use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::changes;
use crate::jail::{Access, Calls, Cell, Jail, Lent, Needs, Standing, Widened};
use crate::link::Place;
use crate::machine::open_input;
use crate::process::{KillGuard, Spawn, inherited};
use crate::snapshot::{self, Snapshot};
use crate::{
    Capabilities, Driver, Exit, Link, LinkError, Machine, Process, Running, Saved, Template,
    VmmError, controlled, logs,
};
use api::{Api, ApiError};
use config::{Beginning, DISK, Files, Request};
use filter::Filter;
use template::FirecrackerTemplate;
use voice::Voice;
use workplace::Workplace;

const NAME: &str = "firecracker";
const ACCELERATOR: &str = "kvm";

/// In its workplace.
const API_SOCKET: &str = "api.sock";

/// Before this version a guest that was paused and resumed takes no new streams.
const PAUSE_SINCE: (u32, u32) = (1, 17);

/// Before this version nothing was tried.
const SNAPSHOT_SINCE: (u32, u32) = (1, 16);

/// The versions that the project's own tests run.
pub const TESTED: &[(u32, u32)] = &[(1, 16)];

/// Largest file it can write, in bytes, at which it ends, unless its guest's memory is larger, which it writes when it is
/// saved. Of the console's log it writes at most 1.5 MiB a day.
const FILE_LIMIT: u64 = 1 << 30;

/// How long Firecracker may take to open its API socket, load kernel and initramfs, and start.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A `firecracker` on this host.
#[derive(Debug, Clone)]
pub struct Firecracker {
    program: PathBuf,
    version: String,
    filter: Filter,
    /// `None` only where a test plays Firecracker.
    jail: Option<(Jail, Needs)>,
}

impl Firecracker {
    /// Runs the program for its version and its libraries.
    pub async fn open(program: &Path, jail: &Jail) -> Result<Self, VmmError> {
        let bare = Self::bare(program).await?;
        let error = |source| VmmError::Spawn { program: program.to_owned(), source };
        let path = program.to_owned();
        let needs = tokio::task::spawn_blocking(move || Needs::of(&path, &[])).await;
        let needs = needs.map_err(|join| error(join.into()))?.map_err(error)?;
        Ok(Self { jail: Some((jail.clone(), needs)), ..bare })
    }

    async fn bare(program: &Path) -> Result<Self, VmmError> {
        let version = crate::process::version(program, "Firecracker v").await?;
        let filter = Filter::of(program);
        Ok(Self { program: program.to_owned(), version, filter, jail: None })
    }

    /// A machine that Firecracker has taken, and of which it has said so.
    async fn launch(&self, machine: &Machine, body: Body) -> Result<Box<dyn Running>, VmmError> {
        machine.check_dir()?;
        let workplace = Workplace::make(&machine.dir, self.user(machine))?;
        Voice::make(&workplace)?;
        let (process, files, cell) = self.spawn(machine, body, &workplace).await?;
        let voice = Voice::listen(&workplace, &machine.logs, &process)?;
        let requests = config::requests(machine, &files, &self.version);
        let configured = configure(&process, &workplace, &requests);
        match tokio::time::timeout(START_DEADLINE, configured).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refusal(process, voice, &machine.logs, error).await),
            Err(_) => {
                return Err(VmmError::Silent { vmm: NAME, seconds: START_DEADLINE.as_secs() });
            }
        }
        let seen = self.look(&process, cell.as_ref())?;
        let process = process.release();
        let saved = Saved::new(NAME, machine, &process, seen);
        let place = Place::default();
        let jail = self.jail.as_ref().map(|(jail, _)| jail.clone());
        Ok(Box::new(FirecrackerMachine { saved, process, place, voice: Some(voice), jail }))
    }

    /// One that was suspended. Maps the files as they are, for itself: nobody else has them.
    async fn wake_whole(
        &self,
        machine: &Machine,
        folder: &Path,
    ) -> Result<Box<dyn Running>, VmmError> {
        let file = |name| self.give("open suspended machine", &folder.join(name), machine);
        let (memory, state) = (file(snapshot::MEMORY)?, file(snapshot::STATE)?);
        self.launch(machine, Body::Snapshot { memory, state }).await
    }

    /// The process, given all it needs. It has not been told of it yet.
    async fn spawn(
        &self,
        machine: &Machine,
        body: Body,
        workplace: &Workplace,
    ) -> Result<(KillGuard, Files, Option<Cell>), VmmError> {
        let mut spawn = Spawn::new(&self.program, workplace.folder());
        spawn.args(["--api-sock", API_SOCKET, "--id", &machine.id]);
        spawn.args(["--level", "Error", "--log-path", voice::LOG_PIPE]);
        spawn.args(["--metrics-path", voice::METRICS_PIPE]);
        let filter = match &self.filter {
            Filter::Beside(file) => {
                let number = spawn.inherit(self.lend("open Firecracker's filter", file)?);
                spawn.args(["--seccomp-filter", &inherited(number)]);
                Some(number)
            }
            Filter::Inside | Filter::Nowhere => None,
        };
        let disk = machine.disk.as_deref().map(|disk| self.lend("open root disk", disk));
        let disk = disk.transpose()?;
        let beginning = match body {
            Body::Boot => Beginning::Boot {
                kernel: spawn.inherit(self.lend("open kernel", &machine.kernel.path)?),
                initramfs: spawn.inherit(self.lend("open initramfs", &machine.initramfs)?),
            },
            Body::Snapshot { memory, state } => {
                Beginning::Snapshot { memory: spawn.inherit(memory), state: spawn.inherit(state) }
            }
        };
        let files = Files {
            beginning,
            disk: disk.map(|disk| spawn.inherit(disk)),
            console: spawn.inherit(self.console(machine)?),
            filter,
        };
        if let Some(disk) = files.disk {
            workplace.link(DISK, &inherited(disk))?;
        }
        let log = logs::create(&machine.logs.join(logs::VMM))?;
        let Some((jail, needs)) = &self.jail else {
            return Ok((spawn.start(log)?, files, None));
        };
        let cell = self.cell(machine, workplace, &files, needs);
        Ok((spawn.start_in(jail, &cell, log).await?, files, Some(cell)))
    }

    /// Firecracker has its own filter on by the time its guest runs.
    fn look(&self, process: &Process, cell: Option<&Cell>) -> Result<Vec<Standing>, VmmError> {
        let Some(((jail, _), cell)) = self.jail.as_ref().zip(cell) else { return Ok(Vec::new()) };
        let seen = jail.look(process.pid(), cell);
        seen.map_err(|source| VmmError::Jail { program: self.program.clone(), source })
    }

    fn lend(&self, act: &'static str, path: &Path) -> Result<OwnedFd, VmmError> {
        match &self.jail {
            Some((jail, _)) => jail.lend(act, path),
            None => open_input(act, path),
        }
    }

    /// The console's log, which the VMM's own user opens again.
    fn console(&self, machine: &Machine) -> Result<OwnedFd, VmmError> {
        let path = machine.logs.join(logs::CONSOLE);
        let log = logs::create(&path)?.into();
        self.hand_over(&log, &path, machine)?;
        Ok(log)
    }

    /// A file of the machine's own, to be read by the VMM's own user, who opens it again.
    fn give(&self, act: &'static str, path: &Path, machine: &Machine) -> Result<OwnedFd, VmmError> {
        let file = open_input(act, path)?;
        self.hand_over(&file, path, machine)?;
        Ok(file)
    }

    fn hand_over(&self, file: &OwnedFd, path: &Path, machine: &Machine) -> Result<(), VmmError> {
        let user = self.user(machine);
        let failed = |source| VmmError::File { act: "give away", path: path.to_owned(), source };
        fchown(file, user, user).map_err(failed)
    }

    fn cell(&self, machine: &Machine, workplace: &Workplace, files: &Files, needs: &Needs) -> Cell {
        let read = files.read().map(|fd| Lent::descriptor(fd, Access::Read));
        Cell {
            id: machine.id.clone(),
            calls: Calls::Firecracker,
            shares: machine.shares(ACCELERATOR),
            file_size: Some(machine.resources.memory_bytes().max(FILE_LIMIT)),
            needs: needs.clone(),
            lent: read.chain([Lent::descriptor(files.console, Access::Write)]).collect(),
            devices: vec!["kvm".to_owned(), "null".to_owned()],
            folder: Some(workplace.folder().to_owned()),
            unfiltered: self.filter.lack(),
        }
    }

    fn user(&self, machine: &Machine) -> Option<u32> {
        self.jail.as_ref().and_then(|(jail, _)| jail.user_of(&machine.id))
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
        ACCELERATOR
    }

    fn caveat(&self) -> Option<String> {
        let filter = self.filter.lack().map(|lack| format!("its own filter is missing: {lack}"));
        let all: Vec<_> = config::untested(&self.version).into_iter().chain(filter).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: config::is_since(&self.version, PAUSE_SINCE),
            balloon: config::has_reports(&self.version),
            snapshot: config::is_since(&self.version, SNAPSHOT_SINCE),
            ..Capabilities::default()
        }
    }

    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        self.launch(machine, Body::Boot).await
    }

    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError> {
        saved.check_driver(NAME)?;
        let process = saved.find_process()?;
        if let Some((jail, _)) = &self.jail {
            jail.clear_after(&saved.id, &process);
        }
        // A machine is worth more than its log.
        let voice = Voice::listen(&Workplace::of(&saved.dir), &saved.logs, &process)
            .inspect_err(|error| tracing::warn!(%error, "log of an adopted VMM"));
        let (saved, place) = (saved.clone(), Place::default());
        let jail = self.jail.as_ref().map(|(jail, _)| jail.clone());
        Ok(Box::new(FirecrackerMachine { saved, process, place, voice: voice.ok(), jail }))
    }

    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        self.wake_whole(machine, folder).await
    }

    async fn load(&self, folder: &Path) -> Result<Arc<dyn Template>, VmmError> {
        let snapshot = Snapshot::load(folder).await?;
        Ok(Arc::new(FirecrackerTemplate { firecracker: self.clone(), snapshot }))
    }
}

/// What a machine begins with.
enum Body {
    Boot,
    Snapshot { memory: OwnedFd, state: OwnedFd },
}

async fn configure(
    process: &Process,
    workplace: &Workplace,
    requests: &[Request],
) -> Result<(), ApiError> {
    let socket = workplace.path(API_SOCKET);
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
    voice: Option<Voice>,
    /// `None` only where a test plays Firecracker.
    jail: Option<Jail>,
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
        let workplace = Workplace::of(&saved.dir);
        let connect = |place| vsock::connect(&workplace, &saved.guest_ports, process, place);
        self.place.connect(deadline, connect).await
    }

    /// With its last words written down.
    async fn exited(&self) -> Exit {
        let exit = self.process.exited().await;
        if let Some(voice) = &self.voice {
            voice.finish().await;
        }
        exit
    }

    async fn pause(&self) -> Result<(), VmmError> {
        self.set_state("Paused").await
    }

    async fn resume(&self) -> Result<(), VmmError> {
        self.set_state("Resumed").await
    }

    /// Firecracker writes to files in its workplace, which are copied: what it has made of them, it may still change.
    async fn save(&self, folder: &Path) -> Result<(), VmmError> {
        self.widen();
        self.write_down(folder, None).await
    }

    async fn suspend(&self, folder: &Path, from: Option<&Path>) -> Result<(), VmmError> {
        let more = self.widen();
        let written = self.write_down(folder, from).await;
        if written.is_err() {
            Workplace::of(&self.saved.dir).remove(&[snapshot::MEMORY, snapshot::STATE]);
            if let Some(more) = more {
                more.narrow();
            }
        }
        written
    }
}

impl FirecrackerMachine {
    fn widen(&self) -> Option<Widened> {
        self.jail.as_ref()?.widen(&self.saved.id)
    }

    async fn write_down(&self, folder: &Path, template: Option<&Path>) -> Result<(), VmmError> {
        let workplace = Workplace::of(&self.saved.dir);
        // While it can still go on as if nothing had been.
        workplace.has_room(self.saved.memory_bytes)?;
        // From here on nothing is left that it does for an earlier daemon, which may have ended meanwhile.
        self.pause().await?;
        workplace.remove(&[snapshot::MEMORY, snapshot::STATE]);
        let memory = workplace.new_file(snapshot::MEMORY)?;
        let state = workplace.new_file(snapshot::STATE)?;
        let body = serde_json::json!({
            "snapshot_type": "Full",
            "snapshot_path": snapshot::STATE,
            "mem_file_path": snapshot::MEMORY,
        });
        self.within(async |api| api.put("/snapshot/create", &body).await).await?;
        snapshot::keep(state, folder, snapshot::STATE).await?;
        match template {
            None => snapshot::keep(memory, folder, snapshot::MEMORY).await,
            Some(template) => changes::keep(memory, &template.join(snapshot::MEMORY), folder).await,
        }
    }

    async fn set_state(&self, state: &str) -> Result<(), VmmError> {
        let body = serde_json::json!({ "state": state });
        self.within(async |api| api.patch("/vm", &body).await).await
    }

    async fn within(
        &self,
        act: impl AsyncFnOnce(&mut Api) -> Result<(), ApiError>,
    ) -> Result<(), VmmError> {
        let socket = Workplace::of(&self.saved.dir).path(API_SOCKET);
        let answer = async { act(&mut Api::connect(&socket).await?).await };
        controlled(NAME, answer).await
    }
}

#[cfg(test)]
mod tests;
