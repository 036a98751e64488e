//! What a VMM's process costs the host, read from `/proc`.

use std::fs;
use std::path::Path;

use osvm_fleet::Memory;

/// Cost of one process so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) memory: Option<Memory>,
    pub(super) cpu_seconds: Option<f64>,
}

impl Usage {
    pub(super) fn of(proc: &Path, pid: u32) -> Self {
        Self { memory: Memory::of(proc, pid), cpu_seconds: cpu(&proc.join(pid.to_string())) }
    }
}

/// User and system time: fields 14 and 15 of `stat`, counted after the parenthesized name.
fn cpu(folder: &Path) -> Option<f64> {
    let text = fs::read_to_string(folder.join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some((user + system) as f64 / ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("7");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("stat"), "7 (a) b)) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20").unwrap();
        let usage = Usage::of(proc.path(), 7);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, Some(200.0 / ticks));
    }

    #[test]
    fn a_process_that_has_gone_costs_nothing_known() {
        let proc = tempfile::tempdir().unwrap();
        let usage = Usage::of(proc.path(), 7);
        assert_eq!(usage, Usage { memory: None, cpu_seconds: None });
    }
}
