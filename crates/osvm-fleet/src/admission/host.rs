//! How much memory there is: the host's, or what the daemon's control groups leave of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::memory::bytes;

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) total: u64,
    /// Without swapping.
    pub(super) available: u64,
}

impl Host {
    pub(super) fn read(proc: &Path) -> Option<Self> {
        let text = fs::read_to_string(proc.join("meminfo")).ok()?;
        let all =
            Self { total: bytes(&text, "MemTotal")?, available: bytes(&text, "MemAvailable")? };
        Some(
            groups(proc)
                .iter()
                .filter_map(|(group, names)| names.read(group))
                .fold(all, Self::least),
        )
    }

    fn least(self, other: Self) -> Self {
        Self { total: self.total.min(other.total), available: self.available.min(other.available) }
    }
}

/// What control groups are called by, and the files in them.
struct Names {
    /// In a process's `cgroup` file.
    controller: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`: what is given back when it is needed.
    cache: [&'static str; 2],
}

const VERSION_2: Names = Names {
    controller: "",
    limit: "memory.max",
    used: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const VERSION_1: Names = Names {
    controller: "memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

impl Names {
    /// Nothing where there is no limit.
    fn read(&self, group: &Path) -> Option<Host> {
        let text = |name| fs::read_to_string(group.join(name)).ok();
        let number = |name| text(name)?.trim().parse::<u64>().ok();
        let (total, used) = (number(self.limit)?, number(self.used)?);
        let stat = text("memory.stat").unwrap_or_default();
        let cache: u64 = self.cache.iter().filter_map(|name| field(&stat, name)).sum();
        Some(Host { total, available: total.saturating_sub(used.saturating_sub(cache)) })
    }
}

/// `inactive_file 4096`
fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The daemon's control group and those above it, as far as they can be seen from here.
fn groups(proc: &Path) -> Vec<(PathBuf, &'static Names)> {
    let [own, mounts] = ["self/cgroup", "self/mountinfo"]
        .map(|name| fs::read_to_string(proc.join(name)).unwrap_or_default());
    let mounts = mounts.lines().filter_map(Mount::of);
    mounts.flat_map(|mount| mount.groups(&own)).collect()
}

/// Where control groups that limit memory can be seen.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    names: &'static Names,
}

impl<'a> Mount<'a> {
    /// By a line of `mountinfo`: numbers, root, mount point, options, ` - `, kind, source, options of the kind.
    fn of(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let (mut place, mut kind) = (place.split(' ').skip(3), kind.split(' '));
        let names = match (kind.next()?, kind.nth(1)?) {
            ("cgroup2", _) => &VERSION_2,
            ("cgroup", options) if options.split(',').any(|one| one == "memory") => &VERSION_1,
            _ => return None,
        };
        Some(Self { root: place.next()?, point: place.next()?, names })
    }

    /// By the lines of a process's `cgroup`: number, controllers, path.
    fn groups(&self, own: &str) -> Vec<(PathBuf, &'static Names)> {
        let path = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let mut controllers = controllers.split(',');
            controllers.any(|one| one == self.names.controller).then_some(path)
        });
        let below = path.and_then(|path| Path::new(path).strip_prefix(self.root).ok());
        // From within a container its own group may be named as from outside, and be all that is seen.
        let below = below.unwrap_or(Path::new(""));
        below.ancestors().map(|group| (Path::new(self.point).join(group), self.names)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn proc(own: &str, mount: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let memory = "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n";
        for (name, text) in [("meminfo", memory), ("self/cgroup", own), ("self/mountinfo", mount)] {
            fs::write(proc.path().join(name), text).unwrap();
        }
        proc
    }

    fn group(path: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(path).unwrap();
        files.iter().for_each(|(name, text)| fs::write(path.join(name), text).unwrap());
    }

    fn host(total: u64, available: u64) -> Option<Host> {
        Some(Host { total, available })
    }

    #[test]
    fn a_group_above_the_daemons_bounds_what_there_is() {
        let root = tempfile::tempdir().unwrap();
        let mount = format!("30 22 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let proc = proc("0::/user/session\n", &mount);
        group(
            &root.path().join("user/session"),
            &[("memory.max", "max\n"), ("memory.current", "1\n")],
        );
        assert_eq!(Host::read(proc.path()), host(8 * GIB, 6 * GIB), "without a limit");
        let used = (2 * GIB).to_string();
        let stat = format!("anon 7\ninactive_file {GIB}\nactive_file 0\n");
        let files =
            [("memory.max", "3221225472\n"), ("memory.current", &used), ("memory.stat", &stat)];
        group(&root.path().join("user"), &files);
        assert_eq!(Host::read(proc.path()), host(3 * GIB, 2 * GIB), "files that are read give way");
    }

    #[test]
    fn groups_of_version_1_count_where_they_limit_memory() {
        let root = tempfile::tempdir().unwrap();
        let line = |folder: &str, what| {
            let point = root.path().join(folder);
            format!("35 31 0:32 /docker/a {} rw - cgroup cgroup rw,{what}\n", point.display())
        };
        let mounts = line("cpu", "cpu") + &line("memory", "memory");
        let proc = proc("4:memory:/docker/a\n1:cpu:/docker/a\n", &mounts);
        for folder in ["cpu", "memory"] {
            let limit = if folder == "cpu" { "1" } else { "2147483648" };
            let files = [("memory.limit_in_bytes", limit), ("memory.usage_in_bytes", "1073741824")];
            group(&root.path().join(folder), &files);
        }
        assert_eq!(Host::read(proc.path()), host(2 * GIB, GIB));
    }
}
