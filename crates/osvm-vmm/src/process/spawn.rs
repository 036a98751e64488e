//! Starts a VMM so that it outlives us: a session of its own, its output in files, only the
//! descriptors it was given.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit};

use super::{Exit, Process};
use crate::VmmError;

/// A program to start, with what it inherits.
#[derive(Debug)]
pub(crate) struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    dir: PathBuf,
    inherited: Vec<OwnedFd>,
    file_limit: Option<u64>,
}

impl Spawn {
    /// `dir` becomes its working directory.
    pub(crate) fn new(program: &Path, dir: &Path) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            dir: dir.to_owned(),
            inherited: Vec::new(),
            file_limit: None,
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

    /// Lets no file that the child writes grow beyond `bytes`: further writes fail with EFBIG, and
    /// the child goes on. Holds for as long as the child lives, whoever watches.
    pub(crate) fn limit_files(&mut self, bytes: u64) -> &mut Self {
        self.file_limit = Some(bytes);
        self
    }

    /// Starts it with its errors to `log`. Its standard output leads nowhere: a guest may be able
    /// to write there. Our copies of the inherited descriptors are closed.
    pub(crate) fn start(self, log: File) -> Result<Process, VmmError> {
        let error = |source| VmmError::Spawn { program: self.program.clone(), source };
        #[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
        let mut command = Command::new(&self.program);
        // Our environment may hold the user's secrets, and a VMM needs nothing of it.
        command.args(&self.args).current_dir(&self.dir).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = Child {
            inherited: self.inherited.iter().map(AsRawFd::as_raw_fd).collect(),
            file_limit: self.file_limit,
        };
        // SAFETY: `prepare` runs between fork and exec and makes only system calls that are
        // async-signal-safe; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || child.prepare()) };
        let mut child = command.spawn().map_err(error)?;
        Process::of_child(child.id()).map_err(|error| {
            // Both fail only where there is nothing left to end.
            let _ = child.kill().and_then(|()| child.wait());
            error.into()
        })
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
    file_limit: Option<u64>,
}

impl Child {
    fn prepare(&self) -> std::io::Result<()> {
        rustix::process::setsid()?;
        for &fd in &self.inherited {
            // SAFETY: `Spawn` owns these descriptors and lives until the child has been started.
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        self.file_limit.map_or(Ok(()), limit_files)
    }
}

/// The signal that comes with a write beyond the limit would end the process: it is ignored, which
/// exec keeps.
fn limit_files(bytes: u64) -> std::io::Result<()> {
    // SAFETY: sets a disposition that runs no code of ours; the child has one thread.
    let old = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if old == libc::SIG_ERR {
        return Err(std::io::Error::last_os_error());
    }
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(rustix::process::setrlimit(Resource::Fsize, limit)?)
}
