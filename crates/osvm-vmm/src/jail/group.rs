//! A control group of the VM's own (version 2): how much of the host it can take, whatever its VMM does.
//!
//! Groups lie side by side in one folder, `osvm`, in the highest group that the daemon may write to: for
//! root that is the root of all, for a user what systemd has delegated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::limits;
use crate::Process;

/// In the highest group that we may divide.
const FOLDER: &str = "osvm";

/// In the order in which they are told.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// How long the kernel lets a group's share of a processor add up, in microseconds.
const PERIOD: u64 = 100_000;

/// A group without processes is left over when it is older than this: a younger one may be about to get
/// its VMM.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// How often, and how soon again, what a VMM that has just ended still holds up is tried.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// What one VM may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// The guest's memory and its VMM's own.
    pub(crate) memory_bytes: u64,
    /// Whole processors.
    pub(crate) processors: u64,
}

/// Where groups are made.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    folder: PathBuf,
}

impl Groups {
    /// Finds the place and makes it ready, or says why there is none. Removes what other daemons left.
    pub(super) fn of_host(proc: &Path) -> Result<Self, String> {
        let place = place(proc)?;
        let groups = Self { folder: place.join(FOLDER) };
        let ready = control(&place)
            .and_then(|()| fs::create_dir_all(&groups.folder))
            .and_then(|()| control(&groups.folder));
        ready.map_err(|error| format!("{}: {error}", place.display()))?;
        groups.sweep();
        Ok(groups)
    }

    /// Puts a process, alone so far, into a new group of the VM's own, which goes when it has ended.
    pub(super) async fn enclose(
        &self,
        id: &str,
        shares: Shares,
        process: &Process,
    ) -> io::Result<()> {
        let group = self.folder.join(id);
        make(&group).await?;
        let pid = process.pid().to_string();
        let enclosed =
            limit(&group, shares).and_then(|()| fs::write(group.join("cgroup.procs"), pid));
        match enclosed {
            Ok(()) => self.remove_after(id, process.clone()),
            Err(_) => drop(fs::remove_dir(&group)),
        }
        enclosed
    }

    /// Lets a VM have twice as much memory.
    pub(super) fn widen(&self, id: &str) -> io::Result<Widened> {
        let file = self.folder.join(id).join("memory.max");
        let usual = fs::read_to_string(&file)?;
        if let Ok(bytes) = usual.trim().parse::<u64>() {
            fs::write(&file, (2 * bytes).to_string())?;
        }
        Ok(Widened { file, usual })
    }

    pub(super) fn remove_after(&self, id: &str, process: Process) {
        let group = self.folder.join(id);
        process.watch_memory(group.join("memory.events"));
        tokio::spawn(async move {
            process.exited().await;
            // Threads of it may take a moment longer.
            for _ in 0..TRIES {
                match fs::remove_dir(&group) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                    _ => return,
                }
                tokio::time::sleep(PAUSE).await;
            }
            tracing::warn!(group = %group.display(), "control group is still in use");
        });
    }

    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|group| group.modified()).ok();
            let age = age.and_then(|since| since.elapsed().ok());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && age > Some(LEFT_OVER) {
                // One that is in use stays.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// A VM that may have more memory than its share.
#[derive(Debug)]
pub(crate) struct Widened {
    file: PathBuf,
    usual: String,
}

impl Widened {
    /// It may have its share again and no more.
    pub(crate) fn narrow(self) {
        // One that has ended has no group any more.
        let _ = fs::write(&self.file, &self.usual);
    }
}

/// A VM that is started once more had a group, which is about to go.
async fn make(group: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::create_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        tokio::time::sleep(PAUSE).await;
    }
    fs::create_dir(group)
}

/// The highest group, from the root down to our own, in which we may make others and move processes.
fn place(proc: &Path) -> Result<PathBuf, String> {
    let mounts = read(&proc.join("self/mountinfo"));
    let root = mounts.lines().find_map(mount_point);
    let root = root.ok_or("this host has no control groups of version 2")?;
    if !has_controllers(&root) {
        return Err("this host controls its resources by control groups of version 1".to_owned());
    }
    let own = read(&proc.join("self/cgroup"));
    let own = of_process(&own).unwrap_or_default();
    let down = Path::new(own).components().scan(root.clone(), |path, part| {
        path.push(part);
        Some(path.clone())
    });
    let mut all = std::iter::once(root.clone()).chain(down);
    all.find(|group| is_ours(group) && has_controllers(group)).ok_or_else(|| {
        format!(
            "none was delegated to this user: its session runs in /{own}, which it may not divide"
        )
    })
}

/// The group that a process is in, below the root, by its `cgroup` file in `/proc`.
fn of_process(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// Whether that is a VM's own.
pub(super) fn is_of_vm(cgroup: &str, id: &str) -> bool {
    of_process(cgroup).is_some_and(|own| Path::new(own).ends_with(Path::new(FOLDER).join(id)))
}

fn mount_point(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
}

fn has_controllers(group: &Path) -> bool {
    missing(&group.join("cgroup.controllers")).is_empty()
}

/// The controllers that are not in a file's list.
fn missing(list: &Path) -> Vec<&'static str> {
    let list = read(list);
    CONTROLLERS.into_iter().filter(|name| list.split_whitespace().all(|one| one != *name)).collect()
}

fn is_ours(group: &Path) -> bool {
    let files = ["", "cgroup.procs", "cgroup.subtree_control"].map(|name| group.join(name));
    files.iter().all(|file| access(file, Access::WRITE_OK).is_ok())
}

/// Has the groups in this one divide its resources.
fn control(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let missing: Vec<_> = missing(&file).iter().map(|name| format!("+{name}")).collect();
    if missing.is_empty() { Ok(()) } else { fs::write(file, missing.join(" ")) }
}

fn limit(group: &Path, shares: Shares) -> io::Result<()> {
    let set = |name: &str, value: String| fs::write(group.join(name), value);
    set("memory.max", shares.memory_bytes.to_string())?;
    set("memory.oom.group", "1".to_owned())?;
    set("cpu.max", format!("{} {PERIOD}", shares.processors * PERIOD))?;
    set("pids.max", limits::THREADS.to_string())?;
    // Not there on kernels without swap.
    let is_absent = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    };
    match set("memory.swap.max", "0".to_owned()) {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host's `/proc` and control groups, of which `ours` has controllers.
    fn host(own: &str, controllers: &str) -> (tempfile::TempDir, PathBuf) {
        let host = tempfile::tempdir().unwrap();
        let (proc, root) = (host.path().join("proc"), host.path().join("cgroup"));
        fs::create_dir_all(proc.join("self")).unwrap();
        let mounts = format!(
            "22 28 0:20 / /sys rw - sysfs sysfs rw\n\
             30 22 0:26 / {} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
            root.display()
        );
        fs::write(proc.join("self/mountinfo"), mounts).unwrap();
        fs::write(proc.join("self/cgroup"), format!("0::{own}\n")).unwrap();
        for group in Path::new(own).ancestors() {
            let group = root.join(group.strip_prefix("/").unwrap());
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.controllers"), controllers).unwrap();
            fs::write(group.join("cgroup.procs"), "").unwrap();
            fs::write(group.join("cgroup.subtree_control"), "pids").unwrap();
        }
        (host, proc)
    }

    #[test]
    fn groups_are_made_in_the_highest_group_that_may_be_divided() {
        let (host, proc) = host("/user/session", "cpuset cpu io memory pids");
        let groups = Groups::of_host(&proc).unwrap();
        let root = host.path().join("cgroup");
        assert_eq!(groups.folder, root.join("osvm"));
        assert_eq!(read(&root.join("cgroup.subtree_control")), "+memory +cpu");
        // What is not there to be written can't be divided.
        fs::remove_file(root.join("cgroup.procs")).unwrap();
        assert_eq!(Groups::of_host(&proc).unwrap().folder, root.join("user/osvm"));
    }

    #[test]
    fn a_host_without_them_is_told_why() {
        let why = |own, controllers| {
            let (_host, proc) = host(own, controllers);
            Groups::of_host(&proc).unwrap_err()
        };
        assert!(why("/", "").contains("version 1"), "{}", why("/", ""));
        let (host, proc) = host("/user", "cpu memory pids");
        for group in ["cgroup", "cgroup/user"] {
            fs::remove_file(host.path().join(group).join("cgroup.procs")).unwrap();
        }
        let why = Groups::of_host(&proc).unwrap_err();
        assert!(why.contains("its session runs in /user,"), "{why}");
        fs::write(proc.join("self/mountinfo"), "").unwrap();
        assert!(Groups::of_host(&proc).unwrap_err().contains("no control groups of version 2"));
    }

    #[tokio::test]
    async fn a_group_waits_for_the_one_before_it_to_go() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("id");
        fs::create_dir(&group).unwrap();
        let gone = async {
            tokio::time::sleep(PAUSE).await;
            fs::remove_dir(&group).unwrap();
        };
        let (made, ()) = tokio::join!(make(&group), gone);
        made.unwrap();
        assert!(group.is_dir());
    }

    #[test]
    fn a_group_is_widened_and_narrowed_again() {
        let (host, proc) = host("/", "cpu memory pids");
        let groups = Groups::of_host(&proc).unwrap();
        let group = host.path().join("cgroup/osvm/id");
        fs::create_dir(&group).unwrap();
        limit(&group, Shares { memory_bytes: 192 << 20, processors: 1 }).unwrap();
        let most = || read(&group.join("memory.max"));
        let widened = groups.widen("id").unwrap();
        assert_eq!(most(), "402653184");
        widened.narrow();
        assert_eq!(most(), "201326592");
        assert!(groups.widen("gone").is_err());
    }

    #[test]
    fn a_group_is_limited_to_the_vms_shares() {
        let group = tempfile::tempdir().unwrap();
        limit(group.path(), Shares { memory_bytes: 192 << 20, processors: 2 }).unwrap();
        let limit = |name: &str| read(&group.path().join(name));
        assert_eq!(limit("memory.max"), "201326592");
        assert_eq!(limit("cpu.max"), "200000 100000");
        assert_eq!((limit("pids.max"), limit("memory.swap.max")), ("512".into(), "0".into()));
    }
}
