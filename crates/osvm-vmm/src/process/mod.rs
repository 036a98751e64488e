//! A host process: a pid and its start time, held by a pidfd so that no signal ever reaches another
//! process that was given the same pid.

mod spawn;
mod stat;
mod version;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

pub(crate) use spawn::{KillGuard, Spawn, inherited};
pub(crate) use version::version;

/// A process that runs or ran. Clones share one watch on its end.
#[derive(Debug, Clone)]
pub struct Process {
    identity: Identity,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
    memory_events: MemoryEvents,
}

/// The control group's file that counts what the kernel ended in it, once the process is in one.
type MemoryEvents = Arc<OnceLock<PathBuf>>;

/// Which process: a pid alone may belong to another one later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from the host's boot to the process's start.
    pub start_time: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// The kernel ended it: it took more memory than its control group has.
    OutOfMemory,
    /// It was not our child, so nobody told us.
    Unknown,
}

/// Why a process could not be watched or signalled.
#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("find process {pid}: it has ended")]
    Gone { pid: u32 },
    #[error("watch process {pid}")]
    Watch { pid: u32, source: io::Error },
    #[error("send signal {signal} to process {pid}")]
    Signal { pid: u32, signal: i32, source: io::Error },
}

impl Process {
    /// The process with that identity, whoever started it. [`ProcessError::Gone`] when it has ended
    /// or its pid has gone to another process.
    pub fn find(identity: Identity) -> Result<Self, ProcessError> {
        let (process, ended) = Self::watch(identity.pid, WaitIdOptions::NOWAIT)?;
        if process.identity == identity && !ended {
            Ok(process)
        } else {
            Err(ProcessError::Gone { pid: identity.pid })
        }
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// A descriptor that can be read once the process has ended.
    pub fn end_to_watch(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// Waits for the process's end. May be called any number of times, also afterwards.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let seen = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        seen.unwrap_or(Exit::Unknown)
    }

    /// How it ended, or `None` while it runs.
    pub fn try_exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Time on a processor so far, of all its threads; `None` once it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = stat::read(Path::new("/proc"), self.pid()).ok().flatten()?;
        let ticks = rustix::param::clock_ticks_per_second();
        let time = Duration::from_millis(stat.busy.saturating_mul(1000) / ticks);
        (stat.start_time == self.identity.start_time).then_some(time)
    }

    /// Whether one of its threads runs, or waits for a processor: how long it has waited shows only when it gets one.
    pub fn is_runnable(&self) -> bool {
        let folder = self.threads();
        let threads = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut ids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        ids.any(|id| stat::read(&folder, id).is_ok_and(|stat| stat.is_some_and(|it| it.runnable)))
    }

    /// Time on a processor and waiting for one so far, of all its threads: on a busy host, how long it had something
    /// to do. `None` once it has ended, or where the kernel keeps no such account.
    pub fn wanted_time(&self) -> Option<Duration> {
        let nanos = std::fs::read_dir(self.threads()).ok()?.flatten().filter_map(|thread| {
            let account = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let mut fields = account.split_whitespace().map(str::parse::<u64>);
            Some(fields.next()?.ok()? + fields.next()?.ok()?)
        });
        let wanted = Some(nanos.sum()).filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        wanted.filter(|_| self.cpu_time().is_some())
    }

    fn threads(&self) -> PathBuf {
        format!("/proc/{}/task", self.identity.pid).into()
    }

    /// SIGTERM. A process that has ended already is no error.
    pub fn terminate(&self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)
    }

    /// SIGKILL. A process that has ended already is no error.
    pub fn kill(&self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL)
    }

    /// From now on its end is [`Exit::OutOfMemory`] when the kernel says so in this file of a control group.
    pub(crate) fn watch_memory(&self, events: PathBuf) {
        // A process is put into a group once.
        let _ = self.memory_events.set(events);
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(ProcessError::Signal {
                pid: self.pid(),
                signal: signal.as_raw(),
                source: errno.into(),
            }),
        }
    }

    /// A child of ours that nobody has waited for, so that its pid is still its own. Its end is
    /// reaped.
    fn of_child(pid: u32) -> Result<Self, ProcessError> {
        Self::watch(pid, WaitIdOptions::empty()).map(|(process, _ended)| process)
    }

    /// Opens the pidfd first and reads the start time after: what is read then belongs to the
    /// process that the pidfd holds, or the process is gone and the pidfd says so.
    fn watch(pid: u32, wait: WaitIdOptions) -> Result<(Self, bool), ProcessError> {
        let error = |source| ProcessError::Watch { pid, source };
        let gone = ProcessError::Gone { pid };
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
        let pidfd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => Arc::new(pidfd),
            Err(rustix::io::Errno::SRCH) => return Err(gone),
            Err(errno) => return Err(error(errno.into())),
        };
        let stat = stat::read(Path::new("/proc"), pid).map_err(error)?;
        let Some(stat) = stat else { return Err(gone) };
        let identity = Identity { pid, start_time: stat.start_time };
        let memory_events = MemoryEvents::default();
        let exit = watch_exit(Arc::clone(&pidfd), wait, Arc::clone(&memory_events));
        let exit = exit.map_err(error)?;
        Ok((Self { identity, pidfd, exit, memory_events }, stat.ended))
    }
}

/// Starts a task that waits on the pidfd and tells how the process ended, and `wait`s for it by
/// these options.
fn watch_exit(
    pidfd: Arc<OwnedFd>,
    wait: WaitIdOptions,
    memory_events: MemoryEvents,
) -> io::Result<watch::Receiver<Option<Exit>>> {
    let (told, exit) = watch::channel(None);
    // SAFETY: an `Arc<OwnedFd>` names the same open descriptor for as long as it lives.
    let ready = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    tokio::spawn(async move {
        let exit = match ready.readable().await {
            Ok(_) => status(ready.get_ref(), wait),
            Err(_) => Exit::Unknown,
        };
        let exit = match exit {
            Exit::Signal(_) | Exit::Unknown if counts_kill(&memory_events) => Exit::OutOfMemory,
            exit => exit,
        };
        told.send_replace(Some(exit));
    });
    Ok(exit)
}

fn status(pidfd: impl AsFd, wait: WaitIdOptions) -> Exit {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | wait;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        // ECHILD: not our child, or reaped by somebody else.
        Ok(None) | Err(_) => Exit::Unknown,
    }
}

fn counts_kill(memory_events: &OnceLock<PathBuf>) -> bool {
    let events = memory_events.get().and_then(|file| std::fs::read_to_string(file).ok());
    let mut counts = events.iter().flat_map(|events| events.lines());
    counts.any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(libc::SIGSYS) => f.write_str("signal 31, for a forbidden system call"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OutOfMemory => f.write_str("it took more memory than its control group has"),
            Self::Unknown => f.write_str("unknown status"),
        }
    }
}

#[cfg(test)]
mod tests;
