//! All processes of one session, to be killed together: by a control group where there are any, else by
//! process group and Unix session.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use osvm_wire::message::{Limits, Outcome, SessionId};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::machine::stats;

/// Most processes of a session that sets no limit.
const PROCESSES: u64 = 4096;

/// Names of the groups that are there before a session wants one: the first, and the next after a rehearsal.
const FIRST: &str = "first";
const NEXT: &str = "next";

/// In a control group, where the kernel has the memory controller.
const EVENTS: &str = "memory.events";
/// In each.
const STATE: &str = "cgroup.events";

/// Where cages are made.
pub(crate) struct Cages {
    /// The root of the control groups, if the kernel has them.
    groups: Option<PathBuf>,
    proc: PathBuf,
    /// For the next session.
    ready: Mutex<Option<PathBuf>>,
    /// Groups whose processes were killed and have not all gone yet.
    doomed: Mutex<Vec<PathBuf>>,
}

/// One session's processes.
pub(crate) struct Cage {
    group: Option<PathBuf>,
    proc: PathBuf,
    /// The kernel's count of out-of-memory kills when the session began. None where the group counts
    /// its own: for this one the kernel writes out two hundred others.
    oom_kills_before: Option<u64>,
}

impl Cages {
    pub(crate) fn new(groups: Option<PathBuf>, proc: PathBuf) -> Self {
        let ready = Mutex::new(made(groups.as_deref(), FIRST));
        Self { groups, proc, ready, doomed: Mutex::default() }
    }

    /// What the first session had is there for another one.
    pub(crate) fn restock(&self) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        *ready = ready.take().or_else(|| made(self.groups.as_deref(), NEXT));
    }

    pub(crate) fn make(&self, session: SessionId, limits: &Limits) -> io::Result<Cage> {
        self.sweep();
        let group = self.groups.as_ref().map(|root| self.group(root, session)).transpose()?;
        if let Some(group) = &group {
            limit(group, limits)?;
        }
        let counts = group.as_ref().is_some_and(|group| group.join(EVENTS).exists());
        let oom_kills_before = (!counts).then(|| stats::oom_kills(&self.proc));
        Ok(Cage { group, proc: self.proc.clone(), oom_kills_before })
    }

    fn group(&self, root: &Path, session: SessionId) -> io::Result<PathBuf> {
        if let Some(ready) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(ready);
        }
        let group = root.join(session.to_string());
        fs::create_dir(&group).map(|()| group)
    }

    /// Removes a cage's group once its processes are gone.
    pub(crate) fn dissolve(&self, cage: &Cage) {
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.extend(cage.group.clone());
        drop(doomed);
        self.sweep();
    }

    fn sweep(&self) {
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.retain(|group| {
            let removed = fs::remove_dir(group);
            removed.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        });
    }
}

/// Where it can't be made, that is told of the session.
fn made(root: Option<&Path>, name: &str) -> Option<PathBuf> {
    root.map(|root| root.join(name)).filter(|group| fs::create_dir(group).is_ok())
}

/// Kernels without the controller have no such file.
fn limit(group: &Path, limits: &Limits) -> io::Result<()> {
    let file = group.join("pids.max");
    if !file.exists() {
        return Ok(());
    }
    fs::write(file, limits.processes.unwrap_or(PROCESSES).to_string())
}

impl Cage {
    /// The file a process writes `0` to in order to be caged.
    pub(super) fn door(&self) -> Option<PathBuf> {
        self.group.as_ref().map(|group| group.join("cgroup.procs"))
    }

    /// Kills every process of the session that began with `leader`.
    pub(crate) fn kill(&self, leader: Pid) {
        let killed = self.group.as_ref().map(|group| fs::write(group.join("cgroup.kill"), "1"));
        if !matches!(killed, Some(Ok(()))) {
            members(&self.proc, leader).into_iter().for_each(|pid| {
                // It may be gone by now.
                let _ = kill_process(pid, Signal::KILL);
            });
        }
    }

    /// Whether none of the session's processes is left, as far as a control group tells.
    pub(crate) fn is_empty(&self) -> bool {
        let state =
            self.group.as_ref().and_then(|group| fs::read_to_string(group.join(STATE)).ok());
        state.is_none_or(|state| stats::counter(&state, "populated") == 0)
    }

    /// Sends a signal to the session's process group.
    pub(crate) fn signal(&self, leader: Pid, signal: Signal) -> rustix::io::Result<()> {
        kill_process_group(leader, signal)
    }

    /// Whether a process that ended so did because the kernel killed it, or one of its own, for want of memory.
    pub(crate) fn ran_out_of_memory(&self, outcome: Outcome) -> bool {
        let group = self.group.as_ref();
        match group.and_then(|group| fs::read_to_string(group.join(EVENTS)).ok()) {
            _ if outcome == Outcome::Code(0) => false,
            Some(events) => stats::counter(&events, "oom_kill") > 0,
            None => {
                let killed = outcome == Outcome::Signal(Signal::KILL.as_raw());
                let before = self.oom_kills_before;
                killed && before.is_some_and(|before| stats::oom_kills(&self.proc) > before)
            }
        }
    }
}

/// The processes whose process group or Unix session `leader` began. One that made a session of its own and
/// lost its parent is not found; only a control group holds it.
fn members(proc: &Path, leader: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat"));
        stat.is_ok_and(|stat| belongs(&stat, leader.as_raw_nonzero().get()))
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// Fields 5 and 6 of `/proc/pid/stat`, counted after the command, which may hold anything but its own end.
fn belongs(stat: &str, leader: i32) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    fields.split_whitespace().skip(2).take(2).any(|field| field.parse() == Ok(leader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_by_its_group_or_its_session() {
        assert!(belongs("9 (a) b) S 1 7 7 0 -1", 7));
        assert!(belongs("9 (sh) S 1 8 7 0 -1", 7));
        assert!(belongs("9 (sh) S 1 7 8 0 -1", 7));
        assert!(!belongs("9 (sh) S 7 8 8 7 -1", 7));
        assert!(!belongs("", 7));
    }

    #[test]
    fn an_out_of_memory_kill_is_told_from_an_ordinary_one() {
        let dir = tempfile::tempdir().unwrap();
        let vmstat = dir.path().join("vmstat");
        fs::write(&vmstat, "nr_free_pages 5\noom_kill 3\n").unwrap();
        let cages = Cages::new(None, dir.path().to_owned());
        let cage = cages.make(SessionId([1; 16]), &Limits::default()).unwrap();
        assert!(!cage.ran_out_of_memory(Outcome::Signal(9)));
        fs::write(&vmstat, "nr_free_pages 5\noom_kill 4\n").unwrap();
        assert!(cage.ran_out_of_memory(Outcome::Signal(9)));
        assert!(!cage.ran_out_of_memory(Outcome::Code(0)));
    }

    #[test]
    fn a_control_group_is_limited_counted_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let cages = Cages::new(Some(root.path().to_owned()), "/proc".into());
        let cage = cages.make(SessionId([2; 16]), &Limits::default()).unwrap();
        let group = cage.group.clone().unwrap();
        assert_eq!(cage.door(), Some(group.join("cgroup.procs")));
        assert!(cage.is_empty());
        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(!cage.is_empty());
        fs::remove_file(group.join("cgroup.events")).unwrap();
        fs::write(group.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(cage.ran_out_of_memory(Outcome::Code(1)));
        fs::remove_file(group.join("memory.events")).unwrap();
        cages.dissolve(&cage);
        assert!(!group.exists());
    }
}
