//! A driver for fast tests of whoever uses drivers.
//!
//! Its machines are real host processes that only wait, so pids, exits, kills and adoption are
//! true. Its guests are the caller's own code, run once per machine: what [`Guest::accept`] gives
//! is the far end of [`Link::open`]. A guest lives on while links come and go, and across `adopt`
//! and `wake` by the same [`Fake`].

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use rustix::process::Signal;
use tokio::io::DuplexStream;
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::link::{ACCEPT_QUEUE, Place, Transport, end_with};
use crate::process::{KillGuard, Spawn};
use crate::{
    Capabilities, Driver, Link, LinkError, Machine, Process, Running, Saved, Stream, Template,
    VmmError,
};

const NAME: &str = "fake";

/// Bytes under way in one direction of a stream.
const STREAM_BUFFER: usize = 64 * 1024;

/// The driver. Clones share machines and faults.
#[derive(Clone)]
pub struct Fake {
    version: &'static str,
    pause: bool,
    guest: Arc<dyn Fn(Guest) -> BoxFuture<'static, ()> + Send + Sync>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<VecDeque<Fault>>,
    machines: Mutex<HashMap<String, Arc<Body>>>,
}

/// What goes wrong with a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `start`, or `wake`, fails with this reason.
    StartFails(String),
    /// `wake` fails, since the disk is full.
    DiskFull,
    /// The process is killed that long after its start.
    DiesAfter(Duration),
    /// `connect` finds nobody, ever.
    NeverAnswers,
}

/// The guest's side of a machine, for the caller's code to act as agent.
pub struct Guest {
    body: Arc<Body>,
    streams: mpsc::Receiver<(u32, Stream)>,
}

/// What a machine is while its process lives, and while it is suspended.
struct Body {
    machine: Machine,
    /// None while it is suspended.
    process: watch::Sender<Option<Process>>,
    answers: bool,
    place: Place,
    to_guest: mpsc::Sender<(u32, Stream)>,
    to_host: Mutex<Option<HostEnd>>,
}

/// Where streams that the guest opens go while a link is up.
#[derive(Clone)]
struct HostEnd {
    closed: CancellationToken,
    accepted: mpsc::Sender<(u32, Stream)>,
}

impl Fake {
    /// `guest` is run once for each machine, and dropped when its process ends.
    pub fn new<G, F>(guest: G) -> Self
    where
        G: Fn(Guest) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let guest = Arc::new(move |end| Box::pin(guest(end)) as BoxFuture<'static, ()>);
        Self { version: "0", pause: true, guest, shared: Arc::default() }
    }

    /// The same, of that version instead of `0`.
    #[must_use]
    pub fn of_version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The same, of machines that are of no use once they were paused, unless they were suspended then.
    #[must_use]
    pub fn without_pause(self) -> Self {
        Self { pause: false, ..self }
    }

    /// Something goes wrong with the next machine that is started. Faults queue up.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.faults).push_back(fault);
    }

    fn spawn(&self, machine: &Machine, process: Process, answers: bool) -> Arc<Body> {
        let (to_guest, streams) = mpsc::channel(ACCEPT_QUEUE);
        let body = Arc::new(Body {
            machine: machine.clone(),
            process: watch::Sender::new(Some(process)),
            answers,
            place: Place::default(),
            to_guest,
            to_host: Mutex::new(None),
        });
        lock(&self.shared.machines).insert(machine.id.clone(), Arc::clone(&body));
        let guest = (self.guest)(Guest { body: Arc::clone(&body), streams });
        tokio::spawn(live(guest, Arc::clone(&body), Arc::clone(&self.shared)));
        body
    }
}

/// Runs the guest's code until the process ends. A guest whose code returns stays, deaf.
async fn live(guest: BoxFuture<'static, ()>, body: Arc<Body>, shared: Arc<Shared>) {
    let deaf = async {
        guest.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = deaf => {}
        () = body.gone() => {}
    }
    let mut machines = lock(&shared.machines);
    if machines.get(&body.machine.id).is_some_and(|other| Arc::ptr_eq(other, &body)) {
        machines.remove(&body.machine.id);
    }
}

#[async_trait]
impl Driver for Fake {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> &str {
        self.version
    }

    fn accelerator(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { pause: self.pause, snapshot: true, ..Capabilities::default() }
    }

    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let fault = lock(&self.shared.faults).pop_front();
        if let Some(Fault::StartFails(reason)) = fault {
            return Err(VmmError::Refused { vmm: NAME, reason });
        }
        let process = wait_long(machine)?;
        if let Some(Fault::DiesAfter(delay)) = fault {
            tokio::spawn(kill_after(process.clone(), delay));
        }
        let answers = fault != Some(Fault::NeverAnswers);
        let body = self.spawn(machine, process.clone(), answers);
        Ok(Box::new(FakeMachine { body, process }))
    }

    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError> {
        saved.check_driver(NAME)?;
        let process = saved.find_process()?;
        let body = lock(&self.shared.machines).get(&saved.id).cloned();
        let body = body.filter(|body| body.is_run_by(&process));
        let body = body.ok_or_else(|| saved.gone())?;
        Ok(Box::new(FakeMachine { body, process }))
    }

    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        let refused = |reason: &str| VmmError::Refused { vmm: NAME, reason: reason.to_owned() };
        match lock(&self.shared.faults).pop_front() {
            Some(Fault::StartFails(reason)) => return Err(refused(&reason)),
            Some(Fault::DiskFull) => return Err(disk_full(folder)),
            _ => {}
        }
        let id = std::fs::read_to_string(folder.join(STATE));
        let id = id.map_err(|error| refused(&error.to_string()))?;
        let body = lock(&self.shared.machines).get(&id).cloned();
        let body = body.ok_or_else(|| refused("no such machine"))?;
        let process = wait_long(machine)?;
        process.signal(Signal::STOP)?;
        body.process.send_replace(Some(process.clone()));
        Ok(Box::new(FakeMachine { body, process }))
    }

    async fn load(&self, _folder: &Path) -> Result<Arc<dyn Template>, VmmError> {
        Ok(Arc::new(self.clone()))
    }
}

/// The guest's code begins anew in each clone.
#[async_trait]
impl Template for Fake {
    async fn restore(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let clone = self.start(machine).await?;
        clone.pause().await?;
        Ok(clone)
    }

    async fn wake(&self, machine: &Machine, folder: &Path) -> Result<Box<dyn Running>, VmmError> {
        Driver::wake(self, machine, folder).await
    }
}

fn disk_full(folder: &Path) -> VmmError {
    let source = std::io::ErrorKind::StorageFull.into();
    VmmError::File { act: "write a guest's memory to", path: folder.to_owned(), source }
}

/// Not for ever, so that a test which forgets its machine leaves no process behind for good.
fn wait_long(machine: &Machine) -> Result<Process, VmmError> {
    let mut spawn = Spawn::new(Path::new("sleep"), &machine.dir);
    spawn.arg("900");
    let log = crate::logs::create(&machine.logs.join(crate::logs::VMM))?;
    spawn.start(log).map(KillGuard::release)
}

async fn kill_after(process: Process, delay: Duration) {
    tokio::time::sleep(delay).await;
    if let Err(error) = process.kill() {
        tracing::warn!(%error, "fake machine could not be killed");
    }
}

struct FakeMachine {
    body: Arc<Body>,
    process: Process,
}

const STATE: &str = "state";

#[async_trait]
impl Running for FakeMachine {
    fn saved(&self) -> Saved {
        Saved::new(NAME, &self.body.machine, &self.process, Vec::new())
    }

    fn process(&self) -> &Process {
        &self.process
    }

    async fn connect(&self, deadline: Duration) -> Result<Link, LinkError> {
        let connect = |place| Arc::clone(&self.body).connect(self.process.clone(), place);
        self.body.place.connect(deadline, connect).await
    }

    async fn pause(&self) -> Result<(), VmmError> {
        Ok(self.process.signal(Signal::STOP)?)
    }

    async fn resume(&self) -> Result<(), VmmError> {
        Ok(self.process.signal(Signal::CONT)?)
    }

    async fn save(&self, folder: &Path) -> Result<(), VmmError> {
        self.pause().await?;
        let path = folder.join(STATE);
        let act = "write a machine's state to";
        std::fs::write(&path, &self.body.machine.id).map_err(|source| VmmError::File {
            act,
            path,
            source,
        })
    }

    async fn suspend(&self, folder: &Path, _from: Option<&Path>) -> Result<(), VmmError> {
        self.save(folder).await?;
        self.body.process.send_replace(None);
        Ok(())
    }
}

impl Body {
    fn is_run_by(&self, process: &Process) -> bool {
        self.process.borrow().as_ref().is_some_and(|own| own.identity() == process.identity())
    }

    /// Waits until its process has ended otherwise than by being suspended.
    async fn gone(&self) {
        let mut process = self.process.subscribe();
        loop {
            let now = process.borrow_and_update().clone();
            let exited = async {
                match &now {
                    Some(now) => drop(now.exited().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = exited => if now.is_some_and(|now| self.is_run_by(&now)) { return },
                _ = process.changed() => {}
            }
        }
    }

    async fn connect(
        self: Arc<Self>,
        process: Process,
        place: OwnedMutexGuard<()>,
    ) -> Result<Link, LinkError> {
        if process.try_exited().is_some() {
            return Err(LinkError::Ended);
        }
        if !self.answers {
            std::future::pending::<()>().await;
        }
        let closed = CancellationToken::new();
        let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
        *lock(&self.to_host) = Some(HostEnd { closed: closed.clone(), accepted });
        end_with(process, closed.clone(), place);
        let transport = Memory { to_guest: self.to_guest.clone(), closed: closed.clone() };
        Ok(Link::new(closed, Box::new(transport), incoming))
    }
}

struct Memory {
    to_guest: mpsc::Sender<(u32, Stream)>,
    closed: CancellationToken,
}

#[async_trait]
impl Transport for Memory {
    async fn open(&self, port: u32) -> Result<Stream, LinkError> {
        let (ours, theirs) = pair(&self.closed);
        self.to_guest.send((port, theirs)).await.map_err(|_| LinkError::Refused { port })?;
        Ok(ours)
    }
}

fn pair(link: &CancellationToken) -> (Stream, Stream) {
    let (ours, theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(STREAM_BUFFER);
    (Stream::new(ours, link), Stream::new(theirs, link))
}

impl Guest {
    /// The next stream that the host opened, with its port. `None` once the machine is gone.
    pub async fn accept(&mut self) -> Option<(u32, Stream)> {
        self.streams.recv().await
    }

    /// Opens a stream to the host. `None` without a link, or on a port the machine may not use.
    pub async fn open(&self, port: u32) -> Option<Stream> {
        let host = lock(&self.body.to_host).clone()?;
        if host.closed.is_cancelled() || !self.body.machine.guest_ports.contains(&port) {
            return None;
        }
        let (ours, theirs) = pair(&host.closed);
        host.accepted.try_send((port, theirs)).ok()?;
        Some(ours)
    }

    /// Breaks the link that is up, if one is.
    pub fn hang_up(&self) {
        if let Some(host) = lock(&self.body.to_host).as_ref() {
            host.closed.cancel();
        }
    }

    /// What was asked for.
    pub fn machine(&self) -> &Machine {
        &self.body.machine
    }

    /// Ends the machine the way a guest's power-off does: the process ends.
    pub fn power_off(&self) {
        let process = self.body.process.borrow().clone();
        if let Some(Err(error)) = process.map(|process| process.terminate()) {
            tracing::warn!(%error, "fake machine could not be ended");
        }
    }
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
