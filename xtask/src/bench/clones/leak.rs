//! Many calls in a row, each in a VM of its own: what the daemon has afterwards that it did not have before, and whether it
//! has become slower.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::calls::{ONCE, call};
use crate::bench::osvm::Osvm;
use crate::bench::processes::processes;
use crate::bench::table::Figure;
use crate::bench::timed;

/// Calls until everything is there that stays.
const WARM: usize = 10;
/// How long it takes until no clone waits for the next call any more: how many do depends on how fast the last ones came.
const SETTLES: Duration = Duration::from_secs(75);
/// Calls at either end whose times are compared.
const END: usize = 100;
/// What the last may take, as a multiple of the first.
const SLOWER: f64 = 1.1;
/// What the daemon may have more, in MiB.
const MORE: f64 = 2.0;

pub(super) fn figures(osvm: &Osvm, count: usize) -> Result<Vec<Figure>> {
    let groups = groups(osvm)?;
    repeat(osvm, WARM)?;
    sleep(SETTLES);
    let before = Belongings::of(osvm, groups.as_deref())?;
    let times = repeat(osvm, count)?;
    sleep(SETTLES);
    let after = Belongings::of(osvm, groups.as_deref())?;
    let end = END.min(count / 2).max(1);
    let (first, last) = (mean(&times[..end]), mean(&times[count - end..]));
    let more = |which: fn(&Belongings) -> usize, of: &str| {
        let (before, after) = (which(&before), which(&after));
        let what = format!("{of} more after {count} calls ({before} before)");
        Figure::count(&what, after as f64 - before as f64).at_most(0.0)
    };
    let memory = after.memory_kib as f64 - before.memory_kib as f64;
    let what = format!("daemon's memory more after {count} calls in VMs of their own");
    let mut figures = vec![
        Figure::mib(&what, memory / 1024.0).at_most(MORE),
        more(|has| has.descriptors, "its descriptors"),
        more(|has| has.sockets, "its sockets"),
        more(|has| has.processes, "processes of its own"),
        more(|has| has.folders, "folders of VMs"),
        more(|has| has.logs, "folders of their logs"),
    ];
    if groups.is_some() {
        figures.push(more(|has| has.groups, "control groups"));
    }
    figures.extend([
        Figure::millis(&format!("mean of the first {end} calls"), first),
        Figure::millis(&format!("mean of the last {end} calls"), last).against(first, SLOWER),
    ]);
    Ok(figures)
}

fn repeat(osvm: &Osvm, count: usize) -> Result<Vec<Duration>> {
    (0..count).map(|_| timed(|| call(osvm))).collect()
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1)
}

/// What a daemon has.
struct Belongings {
    memory_kib: u64,
    descriptors: usize,
    sockets: usize,
    processes: usize,
    folders: usize,
    logs: usize,
    groups: usize,
}

impl Belongings {
    fn of(osvm: &Osvm, groups: Option<&Path>) -> Result<Self> {
        let daemon = osvm.daemon()?;
        let descriptors = fs::read_dir(format!("/proc/{daemon}/fd"))?;
        let descriptors = descriptors.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let descriptors: Vec<_> = descriptors.collect();
        let is_socket = |file: &&PathBuf| file.to_string_lossy().starts_with("socket:");
        Ok(Self {
            memory_kib: osvm.daemon_kib()?,
            sockets: descriptors.iter().filter(is_socket).count(),
            descriptors: descriptors.len(),
            processes: children(daemon)?,
            folders: fs::read_dir(osvm.home().join("vms"))?.count(),
            logs: folders_below(&osvm.home().join("logs"))?,
            groups: groups.map_or(Ok(0), folders_in)?,
        })
    }
}

/// In the folders of a folder.
fn folders_below(path: &Path) -> Result<usize> {
    let folders = fs::read_dir(path)?.flatten().map(|entry| entry.path());
    folders.filter(|path| path.is_dir()).map(|path| folders_in(&path)).sum()
}

/// Processes of the host that it has started.
fn children(parent: u64) -> Result<usize> {
    Ok(processes()?.into_iter().filter(|(_, of)| *of == parent).count())
}

/// Where the control groups of VMs are, if they have any.
fn groups(osvm: &Osvm) -> Result<Option<PathBuf>> {
    osvm.ok(&["mcp", "microvm", "launch", ONCE])?;
    let (pid, _) = osvm.vmm(ONCE)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let root = mount.and_then(|line| line.split(' ').nth(1));
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = root.zip(own).map(|(root, own)| Path::new(root).join(own));
    osvm.ok(&["mcp", "microvm", "stop", ONCE])?;
    let parent = group.and_then(|group| Some(group.parent()?.to_owned()));
    Ok(parent.filter(|parent| parent.ends_with("osvm")))
}

fn folders_in(group: &Path) -> Result<usize> {
    let entries = fs::read_dir(group).with_context(|| format!("read {}", group.display()))?;
    Ok(entries.flatten().filter(|entry| entry.path().is_dir()).count())
}
