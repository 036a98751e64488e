//! QEMU's `microvm` machine, by KVM or by software emulation (TCG).
//!
//! Everything it opens reaches it as an inherited descriptor: guest memory (a memfd, so that a
//! saved guest's memory can be mapped again), kernel, initramfs, disk, console log and both
//! sockets. The sockets are bound and listened on before QEMU starts: connecting needs no retries,
//! and QEMU's death shows as an end of file.
//!
//! In its jail it may be another user than the one whose files these are, so it gets the disk and
//! the console's log as they are (`/dev/fdset`), not to be opened once more. Kernel and initramfs it
//! opens again, by the descriptors' names.

mod arguments;
mod clock;
mod migrate;
pub(crate) mod qmp;
pub(crate) mod stream;
mod suspend;
mod template;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use crate::choose::Accelerator;
use crate::jail::{self, Access, Calls, Cell, Jail, Lent, Needs, Standing};
use crate::link::{self, Place};
use crate::machine::open_input;
use crate::process::{KillGuard, Spawn, inherited};
use crate::snapshot::{self, Snapshot};
use crate::{
    Capabilities, Driver, Link, LinkError, Machine, Process, Running, Saved, Template, VmmError,
    controlled, logs,
};
use arguments::{Descriptors, Host};
use migrate::Memory;
use qmp::{Qmp, QmpError};
use suspend::Written;
use template::QemuTemplate;

const NAME: &str = "qemu";

/// In the run directory: the serial port's host end, and QEMU's control socket.
const LINK_SOCKET: &str = "link.sock";
const QMP_SOCKET: &str = "qmp.sock";

/// How large a guest can make `console.log` (and QEMU `vmm.log`). What is written after is lost.
const LOG_LIMIT: u64 = 1 << 20;

/// How long QEMU may take to load its files and answer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long QEMU may live without its sockets.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// A `qemu-system-x86_64` on this host.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
    version: String,
    host: Host,
    jail: Jail,
    needs: Needs,
}

impl Qemu {
    /// Runs the program once for its version.
    pub async fn open(
        program: &Path,
        accelerator: Accelerator,
        jail: &Jail,
    ) -> Result<Self, VmmError> {
        let version = crate::process::version(program, "QEMU emulator version").await?;
        let tsc_khz = match accelerator {
            Accelerator::Tcg => clock::tsc_khz().await,
            Accelerator::Kvm => None,
        };
        let host = Host { accelerator, tsc_khz };
        let needs = needs(program).await?;
        Ok(Self { program: program.to_owned(), version, host, jail: jail.clone(), needs })
    }

    /// A machine whose QEMU has taken it, and is in the state that it should be in.
    async fn launch(&self, machine: &Machine, body: Body) -> Result<QemuMachine, VmmError> {
        machine.check_dir()?;
        let memory = body.state.as_ref().map(|(_, memory)| *memory);
        let (process, fds, cell) = self.spawn(machine, body).await?;
        let state = fds.state.zip(memory);
        let qmp = machine.dir.join(QMP_SOCKET);
        match timeout(START_DEADLINE, begin(&qmp, state)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refusal(process, machine, &fds, error).await),
            Err(_) => {
                return Err(VmmError::Silent { vmm: NAME, seconds: START_DEADLINE.as_secs() });
            }
        }
        let seen = self.look(&process, &cell)?;
        let process = process.release();
        let saved = Saved::new(NAME, machine, &process, seen);
        let (place, jail) = (Place::default(), self.jail.clone());
        Ok(QemuMachine { saved, process, place, jail, memory: Kept::default() })
    }

    /// One that was suspended, with that memory below its own.
    async fn wake_on(
        &self,
        memory: Option<OwnedFd>,
        machine: &Machine,
        folder: &Path,
    ) -> Result<QemuMachine, VmmError> {
        let state = folder.join(suspend::name(memory.is_some()));
        let state = open_input("open suspended machine", &state)?;
        self.launch(machine, Body { memory, state: Some((state, Memory::Moves)) }).await
    }

    /// The process, given all it needs. It may still refuse it.
    async fn spawn(
        &self,
        machine: &Machine,
        body: Body,
    ) -> Result<(KillGuard, Descriptors, Cell), VmmError> {
        let mut spawn = Spawn::new(&self.program, &machine.dir);
        let disk =
            machine.disk.as_deref().map(|disk| open_input("open root disk", disk)).transpose()?;
        let console = logs::create(&machine.logs.join(logs::CONSOLE))?;
        let fds = Descriptors {
            kernel: spawn.inherit(self.jail.lend("open kernel", &machine.kernel.path)?),
            initramfs: spawn.inherit(self.jail.lend("open initramfs", &machine.initramfs)?),
            disk: disk.map(|disk| spawn.inherit(disk)),
            memory: body.memory.map(|memory| spawn.inherit(memory)),
            console: spawn.inherit(console.into()),
            link: spawn.inherit(listen(&machine.dir.join(LINK_SOCKET))?),
            qmp: spawn.inherit(listen(&machine.dir.join(QMP_SOCKET))?),
            state: body.state.map(|(state, _)| spawn.inherit(state)),
        };
        spawn.args(arguments::arguments(machine, &self.host, &fds));
        let log = logs::create(&machine.logs.join(logs::VMM))?;
        let cell = self.cell(machine, &fds);
        Ok((spawn.start_in(&self.jail, &cell, log).await?, fds, cell))
    }

    fn cell(&self, machine: &Machine, fds: &Descriptors) -> Cell {
        let read = |fd| Lent::descriptor(fd, Access::Read);
        let kvm = (self.host.accelerator == Accelerator::Kvm).then_some("kvm");
        Cell {
            id: machine.id.clone(),
            calls: Calls::Qemu,
            shares: machine.shares(self.accelerator()),
            file_size: Some(LOG_LIMIT),
            needs: self.needs.clone(),
            lent: [fds.kernel, fds.initramfs].map(read).to_vec(),
            devices: ["null"].into_iter().chain(kvm).map(str::to_owned).collect(),
            folder: None,
            unfiltered: None,
        }
    }

    /// QEMU has its own filter on by the time it answers.
    fn look(&self, process: &Process, cell: &Cell) -> Result<Vec<Standing>, VmmError> {
        let seen = self.jail.look(process.pid(), cell);
        seen.map_err(|source| VmmError::Jail { program: self.program.clone(), source })
    }
}

#[async_trait]
impl Driver for Qemu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn accelerator(&self) -> &'static str {
        self.host.accelerator.as_str()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { pause: true, snapshot: true, ..Capabilities::default() }
    }

    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let memory = new_memory(machine)?;
        let kept = memory.try_clone().map_err(|source| no_memory(machine, source))?;
        let running = self.launch(machine, Body { memory: Some(memory), state: None }).await?;
        let memory = Kept::with(kept, running.process.clone());
        Ok(Box::new(QemuMachine { memory, ..running }))
    }

    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError> {
        saved.check_driver(NAME)?;
        let process = saved.find_process()?;
        self.jail.clear_after(&saved.id, &process);
        let (saved, place, jail) = (saved.clone(), Place::default(), self.jail.clone());
        Ok(Box::new(QemuMachine { saved, process, place, jail, memory: Kept::default() }))
    }

    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        Ok(Box::new(self.wake_on(None, machine, folder).await?))
    }

    async fn load(&self, folder: &Path) -> Result<Arc<dyn Template>, VmmError> {
        let snapshot = Snapshot::load(folder).await?;
        Ok(Arc::new(QemuTemplate { qemu: self.clone(), snapshot }))
    }
}

/// What a machine begins with.
struct Body {
    memory: Option<OwnedFd>,
    /// Of a clone, that of its devices; of a machine that was suspended, also what it has in memory, but for what is in
    /// the file that it begins with.
    state: Option<(OwnedFd, Memory)>,
}

/// Firmware lies where QEMU says it looks for it, modules in a folder of its name beside its
/// libraries.
async fn needs(program: &Path) -> Result<Needs, VmmError> {
    let path = program.to_owned();
    let find = move || {
        let said = jail::said(&path, &["-L", "help"], false)?;
        let said = String::from_utf8_lossy(&said);
        let prefix = std::fs::canonicalize(&path)?;
        let prefix = prefix.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned();
        let modules = MODULES.iter().map(|folder| prefix.join(folder));
        let folders: Vec<_> = said.lines().map(PathBuf::from).chain(modules).collect();
        Needs::of(&path, &folders)
    };
    let error = |source| VmmError::Spawn { program: program.to_owned(), source };
    tokio::task::spawn_blocking(find).await.map_err(|join| error(join.into()))?.map_err(error)
}

const MODULES: [&str; 3] = ["lib/qemu", "lib64/qemu", "lib/x86_64-linux-gnu/qemu"];

/// QEMU answers on its main loop, which it enters when the machine is complete.
async fn begin(qmp: &Path, state: Option<(RawFd, Memory)>) -> Result<(), QmpError> {
    let mut qmp = Qmp::connect(qmp).await?;
    let wanted = match state {
        Some((state, memory)) => {
            migrate::read(&mut qmp, state, memory).await?;
            "paused"
        }
        None => "running",
    };
    match qmp.status().await?.as_str() {
        state if state == wanted => Ok(()),
        other => Err(QmpError::Refused(format!("the machine is in state {other}"))),
    }
}

/// Why QEMU did not take the machine, in its own words where it has any.
async fn refusal(
    process: KillGuard,
    machine: &Machine,
    fds: &Descriptors,
    error: QmpError,
) -> VmmError {
    let reason = match error {
        QmpError::Refused(_) | QmpError::Socket(_) => error.to_string(),
        QmpError::Ended => {
            // Only once it has ended has it said everything.
            let exit = process.end().await;
            let said = logs::last_line(&machine.logs.join(logs::VMM));
            let said = said.map(|line| in_our_words(&line, machine, fds));
            said.unwrap_or_else(|| format!("it ended with {exit} and said nothing"))
        }
    };
    VmmError::Refused { vmm: NAME, reason }
}

/// QEMU's line without its name, and with the files' names instead of the descriptors'.
fn in_our_words(line: &str, machine: &Machine, fds: &Descriptors) -> String {
    let line = line.trim_start_matches("qemu-system-x86_64: ").trim_start_matches("qemu: ");
    let kernel = machine.kernel.path.display().to_string();
    let initramfs = machine.initramfs.display().to_string();
    line.replace(&inherited(fds.kernel), &kernel).replace(&inherited(fds.initramfs), &initramfs)
}

fn listen(path: &Path) -> Result<OwnedFd, VmmError> {
    let socket = UnixListener::bind(path);
    let error = |source| VmmError::File { act: "bind socket", path: path.to_owned(), source };
    Ok(socket.map_err(error)?.into())
}

fn new_memory(machine: &Machine) -> Result<OwnedFd, VmmError> {
    let created = snapshot::create(machine.resources.memory_bytes());
    created.map(OwnedFd::from).map_err(|source| no_memory(machine, source))
}

fn no_memory(machine: &Machine, source: std::io::Error) -> VmmError {
    VmmError::Memory { mib: machine.resources.memory_mib(), source }
}

struct QemuMachine {
    saved: Saved,
    process: Process,
    place: Place,
    jail: Jail,
    memory: Kept,
}

/// The memory of a machine that was started here, for as long as its process lives: it would be taken for as long as this
/// is held.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<OwnedFd>>>);

impl Kept {
    fn with(memory: OwnedFd, process: Process) -> Self {
        let kept = Self(Arc::new(Mutex::new(Some(memory))));
        let held = kept.clone();
        tokio::spawn(async move {
            process.exited().await;
            held.lock().take();
        });
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be read by whoever saves the machine.
    fn file(&self) -> Result<File, VmmError> {
        let kept = self.lock().as_ref().map(OwnedFd::try_clone);
        let reason = match kept {
            Some(Ok(memory)) => return Ok(memory.into()),
            Some(Err(error)) => format!("its memory can't be read: {error}"),
            None => "it has ended, or the memory of a machine of before is its own".to_owned(),
        };
        Err(VmmError::Control { vmm: NAME, reason })
    }
}

#[async_trait]
impl Running for QemuMachine {
    fn saved(&self) -> Saved {
        self.saved.clone()
    }

    fn process(&self) -> &Process {
        &self.process
    }

    async fn connect(&self, deadline: Duration) -> Result<Link, LinkError> {
        self.place.connect(deadline, |place| self.connect_in(place)).await
    }

    async fn pause(&self) -> Result<(), VmmError> {
        self.control("stop").await
    }

    async fn resume(&self) -> Result<(), VmmError> {
        self.control("cont").await
    }

    async fn save(&self, folder: &Path) -> Result<(), VmmError> {
        let memory = self.memory.file()?;
        self.pause().await?;
        let state = snapshot::new_file(&folder.join(snapshot::STATE))?;
        self.within(async |qmp| migrate::write(qmp, state.as_fd(), Memory::Stays).await).await?;
        snapshot::keep(memory, folder, snapshot::MEMORY).await
    }

    async fn suspend(&self, folder: &Path, from: Option<&Path>) -> Result<(), VmmError> {
        let more = self.jail.widen(&self.saved.id);
        let written = self.write_down(folder, from).await;
        if written.is_err()
            && let Some(more) = more
        {
            more.narrow();
        }
        written
    }
}

impl QemuMachine {
    async fn connect_in(&self, place: OwnedMutexGuard<()>) -> Result<Link, LinkError> {
        let path = self.saved.dir.join(LINK_SOCKET);
        let mut socket = match UnixStream::connect(&path).await {
            Ok(socket) => socket,
            // A QEMU that ends lets go of its sockets before it has ended.
            Err(source) => {
                let ended = timeout(ENDS_WITHIN, self.process.exited()).await;
                let unreachable = |_| LinkError::Unreachable { socket: path, source };
                return Err(ended.map_or_else(unreachable, |_| LinkError::Ended));
            }
        };
        link::greet(&mut socket).await?;
        Ok(link::mux::start(socket, &self.saved.guest_ports, place))
    }

    /// As one stream.
    async fn write_down(&self, folder: &Path, template: Option<&Path>) -> Result<(), VmmError> {
        self.pause().await?;
        let (pipe, file) = Written::to(folder, template)?;
        let write = async |qmp: &mut Qmp| migrate::write(qmp, pipe.as_fd(), Memory::Moves).await;
        let moved = self.within(write).await;
        drop(pipe);
        // What could not be written is why QEMU could not write.
        file.end().await?;
        moved
    }

    async fn control(&self, command: &'static str) -> Result<(), VmmError> {
        self.within(async |qmp| qmp.execute(command).await.map(drop)).await
    }

    async fn within(
        &self,
        act: impl AsyncFnOnce(&mut Qmp) -> Result<(), QmpError>,
    ) -> Result<(), VmmError> {
        let path = self.saved.dir.join(QMP_SOCKET);
        let done = async { act(&mut Qmp::connect(&path).await?).await };
        controlled(NAME, done).await
    }
}

#[cfg(test)]
mod tests;
