//! What is really around a process, read from `/proc`.

use std::fs;
use std::path::Path;

use super::{Cell, Layer, LayerState, Standing};

/// Looks at the process that `folder` of procfs describes.
pub(super) fn look(folder: &Path, cell: &Cell) -> Vec<Standing> {
    let process = Process::read(folder);
    Layer::ALL.iter().map(|&layer| Standing { layer, state: process.state(layer, cell) }).collect()
}

/// Whether this kernel filters system calls.
pub(super) fn has_seccomp(proc: &Path) -> LayerState {
    let actions = proc.join("sys/kernel/seccomp/actions_avail");
    match fs::read_to_string(actions) {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => LayerState::On,
        _ => LayerState::impossible("this kernel was built without seccomp filters"),
    }
}

/// Files of procfs that say what is around a process. Empty when it has ended.
struct Process {
    status: String,
    limits: String,
}

impl Process {
    fn read(folder: &Path) -> Self {
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        Self { status: read("status"), limits: read("limits") }
    }

    fn state(&self, layer: Layer, cell: &Cell) -> LayerState {
        let filters = self.number("Seccomp_filters");
        let (is_on, seen) = match layer {
            Layer::NoNewPrivs => (self.number("NoNewPrivs") == Some(1), "it may gain privileges"),
            Layer::Rlimits => (self.hard_limit("Max core file size") == Some("0"), "it may dump"),
            Layer::Seccomp => (filters >= Some(1), "no filter is on"),
            Layer::VmmSandbox if !cell.own_sandbox => (false, "this VMM has none"),
            Layer::VmmSandbox => (filters >= Some(2), "only our own filter is on"),
        };
        if is_on { LayerState::On } else { LayerState::off(seen) }
    }

    /// A field of `status`.
    fn number(&self, name: &str) -> Option<u64> {
        let value = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value?.trim().parse().ok()
    }

    /// `limits` has a name, the soft limit and the hard one in columns.
    fn hard_limit(&self, name: &str) -> Option<&str> {
        let values = self.limits.lines().find_map(|line| line.strip_prefix(name))?;
        values.split_whitespace().nth(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::{Calls, Limits};

    const CELL: Cell =
        Cell { calls: Calls::Qemu, limits: Limits { file_size: None }, own_sandbox: true };

    fn seen(status: &str, limits: &str) -> Vec<(Layer, bool)> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("status"), status).unwrap();
        fs::write(folder.path().join("limits"), limits).unwrap();
        let standings = look(folder.path(), &CELL);
        standings.into_iter().map(|s| (s.layer, s.state == LayerState::On)).collect()
    }

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
                          Max core file size        0                    0                    bytes\n";

    #[test]
    fn a_jailed_process_is_known_by_its_files_in_proc() {
        let status = "Name:\tqemu\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n";
        assert!(seen(status, LIMITS).iter().all(|(_, is_on)| *is_on));
    }

    #[test]
    fn a_filter_of_ours_alone_is_not_the_vmms_own() {
        let status = "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let off: Vec<_> = seen(status, LIMITS).into_iter().filter(|(_, is_on)| !is_on).collect();
        assert_eq!(off, [(Layer::VmmSandbox, false)]);
    }

    #[test]
    fn a_process_that_has_gone_has_nothing_around_it() {
        let standings = look(Path::new("/nowhere"), &CELL);
        assert!(standings.iter().all(|standing| standing.state != LayerState::On));
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
