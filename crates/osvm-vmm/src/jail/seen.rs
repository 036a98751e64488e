//! What is really around a process, read from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Layer, LayerState, group, spaces};

/// Whether this kernel filters system calls.
pub(super) fn has_seccomp(proc: &Path) -> LayerState {
    let actions = proc.join("sys/kernel/seccomp/actions_avail");
    match fs::read_to_string(actions) {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => LayerState::On,
        _ => LayerState::impossible("this kernel was built without seccomp filters"),
    }
}

/// By what a VM's process is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks<'a> {
    pub(super) id: &'a str,
    /// If it has one of its own.
    pub(super) user: Option<u32>,
}

/// Files of procfs that say what is around a process. Empty when it has ended.
pub(super) struct Process {
    status: String,
    limits: String,
    groups: String,
    folder: PathBuf,
    own: PathBuf,
}

impl Process {
    pub(super) fn read(proc: &Path, pid: u32) -> Self {
        let folder = proc.join(pid.to_string());
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let (status, limits, groups) = (read("status"), read("limits"), read("cgroup"));
        Self { status, limits, groups, own: proc.join("self"), folder }
    }

    /// What is seen instead where a layer is not on.
    pub(super) fn lacks(&self, layer: Layer, marks: Marks<'_>) -> Option<&'static str> {
        let filters = self.number("Seccomp_filters");
        let (is_on, seen) = match layer {
            Layer::NoNewPrivs => (self.number("NoNewPrivs") == Some(1), "it may gain privileges"),
            Layer::Rlimits => (self.hard_limit("Max core file size") == Some("0"), "it may dump"),
            Layer::Seccomp => (filters >= Some(1), "no filter is on"),
            Layer::VmmSandbox => (filters >= Some(2), "only our own filter is on"),
            // It leaves no trace here; the shim starts nothing without it.
            Layer::Landlock => (!self.status.is_empty(), "it has ended"),
            Layer::OwnUser => (self.is_of(marks.user), "it is another user's, or has capabilities"),
            Layer::ControlGroup => {
                (group::is_of_vm(&self.groups, marks.id), "it is in another group")
            }
            Layer::UserNamespace
            | Layer::MountNamespace
            | Layer::PidNamespace
            | Layer::NetworkNamespace
            | Layer::IpcNamespace
            | Layer::UtsNamespace => (self.is_apart(layer), "it is in ours"),
        };
        (!is_on).then_some(seen)
    }

    fn is_of(&self, user: Option<u32>) -> bool {
        let own = |name| {
            self.field(name)
                .is_some_and(|ids| ids.split_whitespace().all(|id| id.parse().ok() == user))
        };
        let none = |name| self.field(name).is_some_and(|set| set.chars().all(|digit| digit == '0'));
        user.is_some() && own("Uid") && own("Gid") && none("CapPrm") && none("CapBnd")
    }

    fn is_apart(&self, layer: Layer) -> bool {
        let space = |folder: &Path| {
            fs::read_link(folder.join("ns").join(spaces::name(layer).unwrap_or_default()))
        };
        match (space(&self.folder), space(&self.own)) {
            (Ok(its), Ok(ours)) => its != ours,
            _ => false,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// A field of `status`.
    fn field(&self, name: &str) -> Option<&str> {
        let value = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    }

    /// `limits` has a name, the soft limit and the hard one in columns.
    fn hard_limit(&self, name: &str) -> Option<&str> {
        let values = self.limits.lines().find_map(|line| line.strip_prefix(name))?;
        values.split_whitespace().nth(1)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const STATUS: &str = "Name:\tqemu\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\n\
        CapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t2\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max core file size        0                    0                    bytes\n";

    /// Layers that a process with that status lacks; all its namespaces are its own but one.
    fn lacking(status: &str, shared: &str) -> Vec<Layer> {
        let proc = tempfile::tempdir().unwrap();
        let (its, ours) = (proc.path().join("42"), proc.path().join("self"));
        for folder in [&its, &ours] {
            fs::create_dir_all(folder.join("ns")).unwrap();
        }
        fs::write(its.join("status"), status).unwrap();
        fs::write(its.join("limits"), LIMITS).unwrap();
        let group = if shared == "cgroup" { "0::/user\n" } else { "0::/osvm/one\n" };
        fs::write(its.join("cgroup"), group).unwrap();
        for name in ["user", "mnt", "net", "pid", "ipc", "uts"] {
            symlink(format!("{name}:[1]"), ours.join("ns").join(name)).unwrap();
            let number = if name == shared { 1 } else { 2 };
            symlink(format!("{name}:[{number}]"), its.join("ns").join(name)).unwrap();
        }
        let process = Process::read(proc.path(), 42);
        Layer::ALL
            .iter()
            .copied()
            .filter(|l| process.lacks(*l, Marks { id: "one", user: Some(7) }).is_some())
            .collect()
    }

    #[test]
    fn a_jailed_process_is_known_by_its_files_in_proc() {
        assert_eq!(lacking(STATUS, ""), []);
    }

    #[test]
    fn what_is_missing_is_seen() {
        let one_filter = STATUS.replace("filters:\t2", "filters:\t1");
        assert_eq!(lacking(&one_filter, ""), [Layer::VmmSandbox]);
        assert_eq!(lacking(STATUS, "net"), [Layer::NetworkNamespace]);
        assert_eq!(lacking(STATUS, "cgroup"), [Layer::ControlGroup]);
        assert_eq!(lacking(&STATUS.replace("\t7\t7\nGid", "\t7\t0\nGid"), ""), [Layer::OwnUser]);
        let capable = STATUS.replace("CapBnd:\t0", "CapBnd:\t1");
        assert_eq!(lacking(&capable, ""), [Layer::OwnUser]);
    }

    #[test]
    fn a_process_that_has_gone_has_nothing_around_it() {
        let process = Process::read(Path::new("/nowhere"), 42);
        assert!(
            Layer::ALL
                .iter()
                .all(|layer| process.lacks(*layer, Marks { id: "one", user: None }).is_some())
        );
    }

    #[test]
    fn a_kernel_without_filters_is_told() {
        let proc = tempfile::tempdir().unwrap();
        assert!(matches!(has_seccomp(proc.path()), LayerState::Impossible { .. }));
        let folder = proc.path().join("sys/kernel/seccomp");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("actions_avail"), "kill trap errno allow\n").unwrap();
        assert_eq!(has_seccomp(proc.path()), LayerState::On);
    }
}
