//! Folders and single files of the host's that a VM is lent: each served by a process of its own, in a jail that holds
//! nothing else. It ends with the VM's VMM, and outlives the daemon: the guest's files stay open.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use osvm_egress::folders;
use osvm_spec::{Access, Folder};
use osvm_vmm::jail::{Jail, Share};
use osvm_vmm::{Identity, Process};
use rustix::fs::{Mode, OFlags};

use crate::drivers::chain;
use crate::id::VmId;
use crate::rundir::{PREFIX, RunDir};
use crate::state::{Cause, CauseKind};

/// What osvm does when it serves a folder; what may be done in it follows.
pub const WORD: &str = "folder";

/// How long a server whose VMM has ended may take to follow.
const FOLLOW: Duration = Duration::from_secs(2);

/// What osvm does in the jail of a folder, which is its current one: serves it, or the file of that name in it, until
/// the VMM has ended.
pub fn serve(access: &OsStr, file: Option<&OsStr>, given: Vec<OwnedFd>) -> ExitCode {
    let access = access.to_str().and_then(|text| text.parse().ok());
    let (Some(access), Ok([listener, until])) = (access, <[OwnedFd; 2]>::try_from(given)) else {
        return ExitCode::FAILURE;
    };
    let lent = file.unwrap_or(OsStr::new("."));
    match serve_lent(lent, &listener.into(), access, &until) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "a lent folder: failed to {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve_lent(
    lent: &OsStr,
    listener: &UnixListener,
    access: Access,
    until: &OwnedFd,
) -> Result<(), String> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(lent, flags, Mode::empty());
    let folder = folder.map_err(|errno| format!("open what is lent: {errno}"))?;
    let folder = folders::Folder::hold(folder).map_err(|error| error.to_string())?;
    folders::serve(listener, folder, access, until).map_err(|error| error.to_string())
}

/// Everything that one VM is lent.
pub(crate) struct Lender<'a> {
    pub(crate) jail: &'a Jail,
    pub(crate) id: &'a VmId,
    pub(crate) dir: &'a RunDir,
    /// What is never lent.
    pub(crate) own: Own<'a>,
    pub(crate) vmm: &'a Process,
}

impl Lender<'_> {
    /// Starts a server for each folder.
    pub(crate) async fn lend(&self, folders: &[Folder]) -> Result<Vec<Process>, Cause> {
        let mut servers = Servers(Vec::new());
        for (number, folder) in folders.iter().enumerate() {
            servers.0.push(self.serve(number, folder).await?);
        }
        Ok(servers.0.drain(..).collect())
    }

    async fn serve(&self, number: usize, folder: &Folder) -> Result<Process, Cause> {
        let host = may_be_lent(&folder.host, folder.access, self.own)?;
        let failed = |error: &dyn std::error::Error| {
            let message = format!("failed to lend {}: {}", host.display(), chain(error));
            Cause::new(CauseKind::Machine, message).hint("osvm doctor")
        };
        let give = self.give(number).map_err(|error| failed(&error))?;
        let log = File::options().append(true).create(true).open(self.dir.vmm_log());
        let share = Share {
            id: self.id.as_str(),
            number,
            folder: &host,
            is_read_only: folder.access == Access::Ro,
            log: log.map_err(|error| failed(&error))?,
        };
        let mut args = vec![WORD.into(), folder.access.to_string().into()];
        if host.is_file() {
            args.extend(host.file_name().map(OsStr::to_owned));
        }
        self.jail.serve_folder(share, args, give).await.map_err(|error| failed(&error))
    }

    /// Where it listens, and what it ends with.
    fn give(&self, number: usize) -> io::Result<Vec<OwnedFd>> {
        let listener = UnixListener::bind(self.dir.folder_socket(number))?;
        Ok(vec![listener.into(), self.vmm.end_to_watch()?])
    }
}

/// Folders whose files make programs of the host's run others.
const RUNS: [&str; 3] = [".git", ".vscode", ".idea"];

/// osvm's own folders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) home: &'a Path,
    /// Holds a folder for each VM, and perhaps other things.
    pub(crate) runtime: &'a Path,
}

impl Own<'_> {
    /// The one that lies in a folder, or that the folder lies in.
    fn met_in(self, folder: &Path) -> Option<PathBuf> {
        let home = fs::canonicalize(self.home).ok();
        let home = home.filter(|home| home.starts_with(folder) || folder.starts_with(home));
        let runtime = fs::canonicalize(self.runtime).ok();
        let is_met = |own: &PathBuf| own.starts_with(folder) || is_of_a_vm(folder, own);
        home.or_else(|| runtime.filter(is_met))
    }
}

fn is_of_a_vm(folder: &Path, runtime: &Path) -> bool {
    let below = folder.strip_prefix(runtime).ok();
    let first = below.and_then(|below| below.components().next());
    first.is_some_and(|first| first.as_os_str().to_string_lossy().starts_with(PREFIX))
}

/// Once more when each is lent: until then it may become another.
pub(crate) fn may_all_be_lent(folders: &[Folder], own: Own<'_>) -> Result<(), Cause> {
    folders.iter().try_for_each(|it| may_be_lent(&it.host, it.access, own).map(drop))
}

/// The folder itself, wherever links lead, if it may be lent. Whoever could write to osvm's own files could have it
/// do anything.
fn may_be_lent(written: &Path, access: Access, own: Own<'_>) -> Result<PathBuf, Cause> {
    let shown = written.display();
    let refuse = |kind, why: &str| Cause::new(kind, format!("{shown} can't be lent: {why}"));
    let folder = fs::canonicalize(written)
        .map_err(|error| refuse(CauseKind::Request, &error.to_string()))?;
    if !folder.is_dir() && !folder.is_file() {
        return Err(refuse(CauseKind::Request, "it is neither a folder nor a file"));
    }
    if access == Access::Rw && folder.is_file() && folders::runs_code(&folder) {
        return Err(refuse(CauseKind::Refused, "what is in it makes this host run code")
            .hint("lend it with :ro, or with :rw-all if that is meant"));
    }
    let names = folder.iter().filter_map(|name| name.to_str());
    if let Some(name) = names.into_iter().find(|name| access == Access::Rw && RUNS.contains(name)) {
        let why = format!("what is in {name} makes this host run code");
        return Err(refuse(CauseKind::Refused, &why)
            .hint("lend it with :ro, or with :rw-all if that is meant"));
    }
    match own.met_in(&folder) {
        None => Ok(folder),
        Some(own) => {
            let why = format!("osvm keeps its own files in {}", own.display());
            Err(refuse(CauseKind::Refused, &why).hint("lend a folder that does not hold them"))
        }
    }
}

/// Servers of a VM that has not got all of its folders yet.
struct Servers(Vec<Process>);

impl Drop for Servers {
    fn drop(&mut self) {
        end(&self.0);
    }
}

fn end(servers: &[Process]) {
    for server in servers {
        // Fails only when it has ended already.
        let _ = server.kill();
    }
}

/// Those that an earlier daemon started. All of them must be there still.
pub(crate) fn find(
    jail: Option<&Jail>,
    id: &VmId,
    identities: &[Identity],
) -> Result<Vec<Process>, String> {
    let find = |(number, identity): (usize, &Identity)| {
        let server = Process::find(*identity).map_err(|_| "a lent folder's server has ended")?;
        if let Some(jail) = jail {
            jail.keep_folder(id.as_str(), number, &server);
        }
        Ok(server)
    };
    identities.iter().enumerate().map(find).collect()
}

/// Waits for the first of them to end; for ever where there is none.
pub(crate) async fn lost(servers: &[Process]) -> usize {
    if servers.is_empty() {
        return std::future::pending().await;
    }
    let ends = servers.iter().map(|server| Box::pin(server.exited()));
    let (_, number, _) = futures::future::select_all(ends).await;
    number
}

/// Returns when none is left. Their VMM has ended.
pub(crate) async fn gone(servers: &[Process]) {
    let all = futures::future::join_all(servers.iter().map(Process::exited));
    if tokio::time::timeout(FOLLOW, all).await.is_err() {
        end(servers);
        futures::future::join_all(servers.iter().map(Process::exited)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn none() -> Own<'static> {
        Own { home: Path::new("/no/home"), runtime: Path::new("/no/runtime") }
    }

    #[test]
    fn a_folder_is_lent_as_what_it_is_wherever_links_lead() {
        let place = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(place.path()).unwrap().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, place.path().join("link")).unwrap();
        assert_eq!(may_be_lent(&place.path().join("link"), Access::Rw, none()).unwrap(), real);
    }

    #[test]
    fn what_holds_osvms_own_files_or_lies_among_them_is_not_lent() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("home/.osvm");
        fs::create_dir_all(home.join("images")).unwrap();
        fs::create_dir(place.path().join("home/work")).unwrap();
        symlink(&home, place.path().join("home/work/link")).unwrap();
        let own = Own { home: &home, runtime: &place.path().join("run") };
        fs::create_dir_all(place.path().join("run/microvm-1/logs")).unwrap();
        fs::create_dir(place.path().join("run/project")).unwrap();
        let may = |path: &str| may_be_lent(&place.path().join(path), Access::Ro, own);
        for path in [
            "",
            "home",
            "home/.osvm",
            "home/.osvm/images",
            "home/work/link",
            "run",
            "run/microvm-1/logs",
        ] {
            let cause = may(path).unwrap_err();
            assert!(cause.to_string().contains("osvm keeps its own files"), "{path}: {cause}");
            assert_eq!(cause.kind, CauseKind::Refused);
        }
        assert!(may("home/work").is_ok());
        assert!(may("run/project").is_ok(), "others may have files where VMs have folders");
    }

    #[test]
    fn what_makes_the_host_run_code_is_lent_to_be_written_only_when_that_is_said() {
        let place = tempfile::tempdir().unwrap();
        let hooks = place.path().join(".git/hooks");
        fs::create_dir_all(&hooks).unwrap();
        let refused = may_be_lent(&hooks, Access::Rw, none()).unwrap_err().to_string();
        assert!(refused.contains(".git makes this host run code"), "{refused}");
        assert!(may_be_lent(&hooks, Access::Ro, none()).is_ok());
        assert!(may_be_lent(&hooks, Access::RwAll, none()).is_ok());
    }

    #[test]
    fn a_file_is_lent_unless_the_host_runs_code_by_it() {
        let place = tempfile::tempdir().unwrap();
        let may = |name: &str, access| {
            let file = place.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            may_be_lent(&file, access, none()).map(drop)
        };
        assert!(may("file", Access::Rw).is_ok());
        for name in [".envrc", "sub/.git", "mirror.git/config", ".git/index", ".vscode/a"] {
            assert_eq!(may(name, Access::Rw).unwrap_err().kind, CauseKind::Refused, "{name}");
            let written = place.path().join(name);
            assert!(may_be_lent(&written, Access::Ro, none()).is_ok(), "{name}");
            assert!(may_be_lent(&written, Access::RwAll, none()).is_ok(), "{name}");
            fs::remove_dir_all(place.path().join(".git")).ok();
        }
    }

    #[test]
    fn what_is_not_there_or_is_neither_is_named() {
        let place = tempfile::tempdir().unwrap();
        let device = may_be_lent(Path::new("/dev/null"), Access::Ro, none()).unwrap_err();
        assert!(device.to_string().contains("it is neither a folder nor a file"), "{device}");
        let missing =
            may_be_lent(&place.path().join("none"), Access::Ro, none()).unwrap_err().to_string();
        assert!(missing.contains("none can't be lent: No such file"), "{missing}");
    }
}
