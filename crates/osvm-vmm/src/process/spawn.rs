//! Starts a VMM so that it outlives us: a session of its own, its output in files, only the
//! descriptors it was given; in its jail, where it has one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::FdFlags;

use super::{Exit, Process};
use crate::VmmError;
use crate::jail::{Cell, Handover, Jail, JailError, Layer, Plan, Shares};

/// A program to start, with what it inherits.
#[derive(Debug)]
pub(crate) struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    dir: PathBuf,
    inherited: Vec<OwnedFd>,
}

impl Spawn {
    /// `dir` becomes its working directory.
    pub(crate) fn new(program: &Path, dir: &Path) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            dir: dir.to_owned(),
            inherited: Vec::new(),
        }
    }

    pub(crate) fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<I: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = I>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Gives the child a descriptor. It keeps its number, which is returned.
    pub(crate) fn inherit(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.inherited.push(fd);
        number
    }

    /// Starts it with its errors to `log`. Its standard output leads nowhere: a guest may be able
    /// to write there. Our copies of the inherited descriptors are closed.
    pub(crate) fn start(self, log: File) -> Result<KillGuard, VmmError> {
        let error = |source| VmmError::Spawn { program: self.program.clone(), source };
        #[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
        let mut command = Command::new(&self.program);
        // Our environment may hold the user's secrets, and a VMM needs nothing of it.
        command.args(&self.args).current_dir(&self.dir).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = Child { inherited: self.descriptors() };
        // SAFETY: `prepare` runs between fork and exec and makes only system calls that are
        // async-signal-safe; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || child.prepare()) };
        let mut child = command.spawn().map_err(error)?;
        let process = Process::of_child(child.id()).inspect_err(|_| {
            // Both fail only where there is nothing left to end.
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        Ok(KillGuard::new(process))
    }

    /// Starts it in a jail: the shim first, which becomes it.
    pub(crate) async fn start_in(
        mut self,
        jail: &Jail,
        cell: &Cell,
        log: File,
    ) -> Result<KillGuard, VmmError> {
        let program = self.program.clone();
        let refused = |source| VmmError::Jail { program: program.clone(), source };
        let args = std::mem::take(&mut self.args);
        let plan = jail.plan(cell, args, self.descriptors()).map_err(refused)?;
        self.become_shim(jail);
        let (process, handover) = self.hand_over(plan, log).await.map_err(|error| match error {
            Stop::Jail(source) => refused(source),
            Stop::Vmm(error) => error,
        })?;
        if jail.has(Layer::ControlGroup) {
            jail.enclose(&cell.id, cell.shares, &process).await.map_err(refused)?;
        }
        handover.go().await.map_err(refused)?;
        Ok(process)
    }

    /// Has a shim put on the layers of a plan, in a control group if it is to have shares, and end.
    pub(crate) async fn try_out(
        jail: &Jail,
        plan: Plan,
        shares: Option<Shares>,
    ) -> Result<(), JailError> {
        let shim = Self::new(jail.shim().0, Path::new("/"));
        let null = File::options().write(true).open("/dev/null").map_err(JailError::Talk)?;
        let group = |pid| Some((format!("trial-{pid}"), shares?));
        shim.start_own(jail, plan, group, null).await.map(drop)
    }

    /// Starts what osvm does itself, in a jail; by its pid, in a control group with these shares.
    pub(crate) async fn start_own(
        mut self,
        jail: &Jail,
        plan: Plan,
        group: impl FnOnce(u32) -> Option<(String, Shares)>,
        log: File,
    ) -> Result<KillGuard, JailError> {
        self.become_shim(jail);
        let (process, handover) = self.hand_over(plan, log).await.map_err(|error| match error {
            Stop::Jail(error) => error,
            Stop::Vmm(error) => JailError::Talk(std::io::Error::other(error)),
        })?;
        if let Some((group, shares)) = group(process.pid()) {
            jail.enclose(&group, shares, &process).await?;
        }
        handover.go().await?;
        Ok(process)
    }

    fn become_shim(&mut self, jail: &Jail) {
        let (program, args) = jail.shim();
        self.program = program.to_owned();
        self.args = args.to_vec();
    }

    /// Starts the shim, with the plan, as far as the process that will be the program.
    async fn hand_over(mut self, plan: Plan, log: File) -> Result<(KillGuard, Handover), Stop> {
        let (mut handover, socket) = Handover::new().map_err(JailError::Talk)?;
        let socket = self.inherit(socket);
        self.arg(socket.to_string());
        let shim = self.start(log)?;
        let pid = born(&mut handover, plan, &shim).await?;
        if pid == shim.pid() {
            return Ok((shim, handover));
        }
        // A child of ours as the shim is, which has done its part.
        let process = Process::of_child(pid).map_err(VmmError::from)?;
        shim.exited().await;
        Ok((KillGuard::new(process), handover))
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.inherited.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// By what name the child opens a descriptor that it has inherited.
pub(crate) fn inherited(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

/// The pid of the process that will be the program. A shim that is killed before it tells it leaves one that waits, and
/// that holds the socket open as it did itself.
async fn born(handover: &mut Handover, plan: Plan, shim: &Process) -> Result<u32, JailError> {
    let mut born = pin!(handover.prepare(plan));
    tokio::select! {
        pid = &mut born => return pid,
        _ = shim.exited() => {}
    }
    // What it has said may not have been heard yet.
    tokio::time::timeout(LAST_WORDS, born).await.unwrap_or(Err(JailError::Silent))
}

/// Why a shim was stopped on its way.
enum Stop {
    Jail(JailError),
    Vmm(VmmError),
}

impl From<JailError> for Stop {
    fn from(error: JailError) -> Self {
        Self::Jail(error)
    }
}

impl From<VmmError> for Stop {
    fn from(error: VmmError) -> Self {
        Self::Vmm(error)
    }
}

/// How long a process that has hung up on us may take to say why and end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A process that is killed unless [`released`](Self::release): a start that fails or is given up
/// leaves none.
#[derive(Debug)]
pub(crate) struct KillGuard(Option<Process>);

impl KillGuard {
    pub(crate) fn new(process: Process) -> Self {
        Self(Some(process))
    }

    /// Waits a little for a process that is about to end by itself, and tells how it ended.
    pub(crate) async fn end(self) -> Exit {
        let ended = tokio::time::timeout(LAST_WORDS, self.exited()).await;
        ended.unwrap_or(Exit::Unknown)
    }

    pub(crate) fn release(mut self) -> Process {
        self.0.take().expect("only release and drop take it, and both end the guard")
    }
}

impl Deref for KillGuard {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.0.as_ref().expect("only release and drop take it, and both end the guard")
    }
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        if let Some(process) = self.0.take()
            && let Err(error) = process.kill()
        {
            tracing::warn!(%error, "a VMM that did not start could not be killed");
        }
    }
}

/// What is done in the child before it becomes the program.
struct Child {
    inherited: Vec<RawFd>,
}

impl Child {
    fn prepare(&self) -> std::io::Result<()> {
        rustix::process::setsid()?;
        for &fd in &self.inherited {
            // SAFETY: `Spawn` owns these descriptors and lives until the child has been started.
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    }
}
