//! Starting a server process: caged, unprivileged, with pipes for its bytes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use osvm_wire::message::{Refusal, Spawn};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};

use super::cage::{Cage, Cages};
use super::lookup;
use super::reaper::HasPid;
use super::user::Account;
use crate::console::say;
use crate::tries::{Handover, Watched};

/// Open files of a process that asks for no other number.
const OPEN_FILES: u64 = 65_536;

/// A process that runs.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) cage: Cage,
    pub(crate) pipes: Pipes,
    /// Where its calls wait to be looked at.
    pub(crate) watched: Option<Watched>,
}

/// The agent's ends of a process's standard streams.
pub(crate) struct Pipes {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl HasPid for Started {
    fn pid(&self) -> Pid {
        self.pid
    }
}

/// Starts what was asked. `etc` holds the image's users; nobody switches user without one. `offered` is for the
/// environment, where that does not say otherwise. One that is to be watched waits at its first call until somebody
/// looks.
///
/// Waits for as long as the file systems do that the program and its folder lie in.
pub(crate) fn start(
    spawn: &Spawn,
    etc: Option<&Path>,
    offered: &[(&str, &str)],
    cages: &Cages,
    watch: bool,
) -> Result<Started, Refusal> {
    check(spawn)?;
    let account = etc.map(|etc| account(spawn, etc)).transpose()?;
    let cwd = PathBuf::from(spawn.cwd.as_deref().unwrap_or("/"));
    check_folder(&cwd)?;
    let env = environment(spawn, account.as_ref().map(|(account, _)| account), offered);
    let path = env.get("PATH").map_or(lookup::DEFAULT_PATH, String::as_str);
    let file = lookup::find(&spawn.argv[0], path, &cwd)?;
    let cage = cages.make(spawn.session, &spawn.limits).map_err(failed("make a control group"))?;
    let handover = watch.then(Handover::new).transpose();
    let handover = handover.map_err(failed("prepare to watch the process"))?.map(Arc::new);
    let child = Entry::new(spawn, account, &cage, handover.clone())
        .and_then(|entry| execute(&file, spawn, &env, &cwd, entry))
        .inspect_err(|_| cages.dissolve(&cage));
    match child {
        Ok(child) => started(child, cage, handover.as_deref().and_then(watched))
            .map_err(failed("open the process's pipes")),
        Err(error) if is_shortage(&error) => Err(failed("start a process")(error)),
        Err(error) => Err(lookup::explain(&file, &error)),
    }
}

fn check(spawn: &Spawn) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::Invalid { why: why.to_owned() });
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    if spawn.argv.first().is_none_or(String::is_empty) {
        return invalid("the command is empty");
    }
    if spawn.argv.iter().any(|argument| argument.contains('\0')) {
        return invalid("an argument contains a zero byte");
    }
    if !spawn.env.iter().all(|(name, value)| is_name(name) && !value.contains('\0')) {
        return invalid("an environment variable has an impossible name or a zero byte");
    }
    Ok(())
}

fn check_folder(cwd: &Path) -> Result<(), Refusal> {
    let problem = match cwd.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is no folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Refusal::WorkingDirectory { path: cwd.display().to_string(), why: problem })
}

fn account(spawn: &Spawn, etc: &Path) -> Result<(Account, Vec<u32>), Refusal> {
    let account = match &spawn.user {
        Some(user) => Account::find(user, etc),
        None => Account::unprivileged(etc),
    }?;
    let groups = account.groups(etc);
    Ok((account, groups))
}

fn environment(
    spawn: &Spawn,
    account: Option<&Account>,
    offered: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let home = account.map_or("/", |account| &account.home);
    // Programs differ in which case they prefer, so either one says otherwise.
    let says = |name: &str| spawn.env.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let offered = offered.iter().copied().filter(|(name, _)| !says(name));
    let defaults = [("PATH", lookup::DEFAULT_PATH), ("HOME", home)].into_iter().chain(offered);
    let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
    defaults.chain(spawn.env.iter().cloned()).collect()
}

fn execute(
    file: &Path,
    spawn: &Spawn,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    entry: Entry,
) -> io::Result<Child> {
    #[expect(
        clippy::disallowed_methods,
        reason = "starting the guest's processes is this file's purpose"
    )]
    let mut command = Command::new(file);
    command.arg0(&spawn.argv[0]).args(&spawn.argv[1..]).current_dir(cwd).env_clear().envs(env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure makes system calls only: it neither allocates nor takes
    // a lock. All it needs was opened and allocated before.
    unsafe { command.pre_exec(move || entry.enter()) };
    command.spawn()
}

/// A kernel without such filters has none.
fn watched(handover: &Handover) -> Option<Watched> {
    let unnoticed = |error: &io::Error| say(format_args!("paths go unnoticed: {error}"));
    handover.receive().inspect_err(unnoticed).ok()
}

fn started(child: Child, cage: Cage, watched: Option<Watched>) -> io::Result<Started> {
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(missing)?;
    let pipes = Pipes {
        stdin: child.stdin.ok_or_else(missing)?.into(),
        stdout: child.stdout.ok_or_else(missing)?.into(),
        stderr: child.stderr.ok_or_else(missing)?.into(),
    };
    Ok(Started { pid, cage, pipes, watched })
}

/// What a new process does to itself before it becomes the server.
struct Entry {
    door: Option<OwnedFd>,
    limits: [(Resource, Rlimit); 2],
    ids: Option<(Uid, Gid, Vec<Gid>)>,
    handover: Option<Arc<Handover>>,
}

impl Entry {
    fn new(
        spawn: &Spawn,
        account: Option<(Account, Vec<u32>)>,
        cage: &Cage,
        handover: Option<Arc<Handover>>,
    ) -> io::Result<Self> {
        let open = |path| rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
        let ids = account.map(|(account, groups)| {
            let groups = groups.into_iter().map(Gid::from_raw).collect();
            (Uid::from_raw(account.uid), Gid::from_raw(account.gid), groups)
        });
        let open_files = spawn.limits.open_files.unwrap_or(OPEN_FILES);
        Ok(Self {
            door: cage.door().map(open).transpose()?,
            limits: [(Resource::Nofile, limit(open_files)), (Resource::Core, limit(0))],
            ids,
            handover,
        })
    }

    fn enter(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        die_before_agent();
        if let Some(door) = &self.door {
            rustix::io::write(door.as_fd(), b"0")?;
        }
        for (resource, limit) in &self.limits {
            limit_to(*resource, limit)?;
        }
        if let Some((uid, gid, groups)) = &self.ids {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_gid(*gid)?;
            rustix::thread::set_thread_uid(*uid)?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::thread::set_no_new_privs(true)?;
        // Last, since its calls wait from then on.
        self.handover.as_ref().map_or(Ok(()), |handover| handover.enter())
    }
}

/// A limit that must not be raised stays as it is.
fn limit_to(resource: Resource, limit: &Rlimit) -> io::Result<()> {
    match rustix::process::setrlimit(resource, *limit) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        set => Ok(set?),
    }
}

/// The agent is exempt from out-of-memory kills; what it starts is not.
fn die_before_agent() {
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty());
    if let Ok(file) = file {
        let _ = rustix::io::write(file, b"0");
    }
}

fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::NOMEM, Errno::AGAIN, Errno::MFILE, Errno::NFILE];
    shortages.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn failed(act: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |error| Refusal::Failed { act: act.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_gives_way_to_what_was_asked_in_either_case() {
        let env = [("HTTPS_PROXY", "mine"), ("HOME", "/home")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let spawn = Spawn { env, ..Spawn::default() };
        let offered = [("http_proxy", "ours"), ("https_proxy", "ours"), ("HTTPS_PROXY", "ours")];
        let env = environment(&spawn, None, &offered);
        let get = |name| env.get(name).map(String::as_str);
        assert_eq!((get("http_proxy"), get("https_proxy")), (Some("ours"), None));
        assert_eq!((get("HTTPS_PROXY"), get("HOME")), (Some("mine"), Some("/home")));
    }
}
